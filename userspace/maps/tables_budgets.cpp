// SPDX-License-Identifier: MIT
// Tables: what a service may spend on retries, and what clients share of one near its limit. These maps'
// values hold a lock, so that they are read and written by system calls, whole.
#include <bpf/bpf.h>

#include <algorithm>

#include "base/clock.hpp"
#include "maps/bpf_error.hpp"
#include "maps/tables.hpp"

namespace petrel {
namespace {

constexpr double kOneQ16 = 65536;

std::uint32_t saturated_q16(double value) {
  return static_cast<std::uint32_t>(std::min(value * kOneQ16, 4294967295.0));
}

Result<bpf::budget> read_bucket(int map_fd, std::uint32_t service_id) {
  bpf::budget bucket{};
  const int rc = bpf_map_lookup_elem_flags(map_fd, &service_id, &bucket, BPF_F_LOCK);
  if (rc != 0) return bpf_error(rc, "read a budget");
  return bucket;
}

Result<void> write_bucket(int map_fd, std::uint32_t service_id, const bpf::budget& bucket) {
  const int rc = bpf_map_update_elem(map_fd, &service_id, &bucket, BPF_F_LOCK);
  if (rc != 0) return bpf_error(rc, "write a budget");
  return {};
}

}  // namespace

Result<bpf::budget> Tables::read_budget(std::uint32_t service_id) const {
  return read_bucket(budgets_fd_, service_id);
}

Result<bpf::budget> Tables::read_admissions(std::uint32_t service_id) const {
  return read_bucket(admissions_fd_, service_id);
}

// Between the read and the write a retry may spend a token: that one is not lost count of by more
// than itself, and the rate is exact again from here.
Result<void> Tables::write_budget(std::uint32_t service_id, double per_s, double burst) {
  auto budget = read_budget(service_id);
  if (!budget) return budget.error();
  const std::uint64_t burst_q16 = static_cast<std::uint64_t>(std::max(burst, 1.0) * kOneQ16);
  const std::uint32_t rate_q16 = saturated_q16(per_s);
  if (budget->rate_q16 == rate_q16 && budget->burst_q16 == burst_q16) return {};
  const bool fresh = budget->filled_ns == 0;
  budget->rate_q16 = rate_q16;
  budget->burst_q16 = burst_q16;
  if (fresh) {
    budget->tokens_q16 = burst_q16;
    budget->filled_ns = monotonic_ns();
  }
  return write_bucket(budgets_fd_, service_id, *budget);
}

Result<void> Tables::write_shared_rate(std::uint32_t service_id, double per_s) {
  const std::uint32_t rate_q16 = saturated_q16(per_s);
  const auto before = shared_rates_.find(service_id);
  if (before != shared_rates_.end() && before->second == rate_q16) return {};
  auto admissions = read_admissions(service_id);
  if (!admissions) return admissions.error();
  admissions->rate_q16 = rate_q16;
  if (auto written = write_bucket(admissions_fd_, service_id, *admissions); !written) return written;
  shared_rates_[service_id] = rate_q16;
  return {};
}

Result<void> Tables::set_tokens(std::uint32_t service_id, double tokens) {
  auto budget = read_budget(service_id);
  if (!budget) return budget.error();
  budget->tokens_q16 =
      std::min(budget->burst_q16, static_cast<__u64>(std::max(tokens, 0.0) * kOneQ16));
  budget->filled_ns = monotonic_ns();
  return write_bucket(budgets_fd_, service_id, *budget);
}

}  // namespace petrel
