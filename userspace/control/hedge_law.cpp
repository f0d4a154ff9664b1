// SPDX-License-Identifier: MIT
#include "control/hedge_law.hpp"

#include <algorithm>

namespace petrel {

std::uint64_t HedgeLaw::wait_ns(std::uint64_t usual_connect_ns) const {
  if (usual_connect_ns == 0) return 0;
  const auto times = static_cast<std::uint64_t>(settings_.usual_times *
                                                static_cast<double>(usual_connect_ns));
  return std::max(times, settings_.least_wait_ns);
}

void HedgeLaw::tick(std::uint64_t syns, std::chrono::nanoseconds elapsed) {
  const double more =
      has_counted_ && syns > counted_ ? static_cast<double>(syns - counted_) : 0;
  counted_ = syns;
  has_counted_ = true;
  const double seconds = std::chrono::duration<double>(elapsed).count();
  if (seconds <= 0) return;
  syns_per_s_ += (more / seconds - syns_per_s_) * std::min(1.0, seconds / settings_.saved_s);
  const double most = std::max(1.0, settings_.share * syns_per_s_ * settings_.saved_s);
  tokens_ = std::min(tokens_ + settings_.share * more, most);
}

bool HedgeLaw::spend() {
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

}  // namespace petrel
