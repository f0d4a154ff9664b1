// SPDX-License-Identifier: MIT
#include "simulate/scenario.hpp"

#include <algorithm>
#include <cmath>

#include "simulate/random.hpp"

namespace petrel::simulate {
namespace {

constexpr double kNsPerMs = 1e6;
constexpr double kLeastServiceNs = 1000;

}  // namespace

double ServiceTime::draw_ns(Random& random) const {
  const double mean_ns = mean_ms * kNsPerMs;
  double time_ns = mean_ns;
  switch (distribution) {
    case Distribution::kConstant:
      break;
    case Distribution::kExponential:
      time_ns = random.exponential(mean_ns);
      break;
    case Distribution::kLognormal:
      // A lognormal's mean is exp(mu + sigma^2 / 2): that half is taken back, so that mean_ms
      // holds.
      time_ns = mean_ns * std::exp(spread * random.normal() - spread * spread / 2);
      break;
    case Distribution::kNormal:
      time_ns = mean_ns + spread * kNsPerMs * random.normal();
      break;
  }
  return std::max(time_ns, kLeastServiceNs);
}

std::optional<std::uint64_t> RetryPolicy::delay_ns(std::uint32_t attempts, Random& random) const {
  if (kind == RetryKind::kNone || attempts >= max_attempts) return std::nullopt;
  double milliseconds = delay_ms;
  if (kind == RetryKind::kExponential) {
    const double most = std::min(cap_ms, delay_ms * std::exp2(attempts - 1.0));
    milliseconds = most * random.uniform();
  }
  return static_cast<std::uint64_t>(milliseconds * kNsPerMs);
}

double Scenario::capacity_per_s() const {
  double workers = 0;
  for (std::uint32_t i = 0; i < backends; ++i) {
    const double size = i < sizes.size() ? sizes[i] : 1.0;
    workers += std::max(1.0, std::floor(concurrency * size));
  }
  return workers / (service_time.mean_ms / 1000);
}

void Scenario::set_backends(std::uint32_t count) {
  for (Fault& fault : faults) {
    if (fault.first == 0 && fault.count == backends) fault.count = count;
  }
  std::erase_if(faulty, [count](std::uint32_t backend) { return backend >= count; });
  backends = count;
}

void Scenario::set_cause_duration(double seconds) {
  const double before_s = cause_until_s;
  const double after_s = cause_from_s + seconds;
  for (Fault& fault : faults) {
    if (fault.from_s == cause_from_s && fault.until_s == before_s) fault.until_s = after_s;
  }
  for (RateStep& step : rate_steps) {
    if (step.from_s == before_s) step.from_s = after_s;
  }
  cause_until_s = after_s;
  duration_s += after_s - before_s;
}

const Scenario* find_scenario(std::string_view name) {
  const auto found = std::ranges::find(scenarios(), name, &Scenario::name);
  return found == scenarios().end() ? nullptr : &*found;
}

}  // namespace petrel::simulate
