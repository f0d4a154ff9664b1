// SPDX-License-Identifier: MIT
#include "maps/kernel_score.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace petrel {
namespace {

template <class View>
void write_changed(View& to, const View& from) {
  if (std::memcmp(&to, &from, sizeof(View)) != 0) to = from;
}

}  // namespace

Result<KernelScore> KernelScore::open(const DataPath& path) {
  KernelScore opened;
  const auto map = [&](const char* name, auto& array) -> Result<void> {
    auto found = std::decay_t<decltype(array)>::open(path.map_fd(name), path.map_entries(name));
    if (!found) return found.error().within(name);
    array = std::move(*found);
    return {};
  };
  if (auto mapped = map("models", opened.models_); !mapped) return mapped.error();
  if (auto mapped = map("backend_views", opened.backends_); !mapped) return mapped.error();
  if (auto mapped = map("service_views", opened.services_); !mapped) return mapped.error();
  return opened;
}

std::uint32_t KernelScore::next_generation() const {
  const bpf::scoring_models& all = models_[0];
  std::uint32_t last = 0;
  for (const bpf::scoring_model& model : all.models) last = std::max(last, model.generation);
  const std::uint32_t next = last + 1;
  return (next & 0xffff) == 0 ? next + 1 : next;  // 0 in an event: not scored
}

void KernelScore::write_model(const bpf::scoring_model& model) {
  bpf::scoring_models& all = models_[0];
  const std::uint32_t other = all.in_force == 1 ? 2 : 1;
  all.models[other - 1] = model;
  std::atomic_ref<std::uint32_t>(all.in_force).store(other, std::memory_order_release);
}

void KernelScore::write_views(std::span<const bpf::backend_view> backends,
                              std::span<const bpf::service_view> services,
                              const bpf::service_view& unknown_service) {
  for (std::uint32_t id = 0; id < backends_.size(); id++) {
    write_changed(backends_[id], id < backends.size() ? backends[id] : bpf::backend_view{});
  }
  for (std::uint32_t id = 0; id < services_.size(); id++) {
    write_changed(services_[id], id < services.size() ? services[id] : unknown_service);
  }
}

}  // namespace petrel
