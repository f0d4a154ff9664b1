// SPDX-License-Identifier: MIT
#include "predict/plan.hpp"

#include <vector>

namespace petrel {
namespace {

std::uint64_t bit(std::size_t index) {
  return std::uint64_t{1} << index;
}

std::uint64_t differences(const FeatureVector& left, const FeatureVector& right) {
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < kFeatureCount; i++) {
    if (left[i] != right[i]) bits |= bit(i);
  }
  return bits;
}

// Tries requests of which `given` is given, at each moment that it may be.
class Trial {
 public:
  Trial(const Moment& moment, std::uint64_t given) : given_(given), applied_(given) {
    const DecidingQuantities& is = deciding();
    // One value has three names, and is written once.
    const std::uint64_t elapsed =
        bit(is.response_time_ms) | bit(is.waiting_ms) | bit(is.syn_waiting_ms);
    for (std::size_t i = 0; i < quantities().size(); i++) {
      const bool is_elapsed = (bit(i) & elapsed) != 0;
      if (is_elapsed && (given & elapsed) == 0 && i != is.response_time_ms) continue;
      if (is_elapsed && (given & elapsed) != 0 && (given & bit(i)) == 0) continue;
      if (quantities()[i].overrides && (given & bit(i)) == 0) continue;
      if (quantities()[i].apply != nullptr) applied_ |= bit(i);
    }
    for (std::size_t p = 0; p < kPointCount; p++) {
      if (moment.point && static_cast<std::size_t>(*moment.point) != p) continue;
      for (std::uint8_t failure = 0; failure < bpf::FAILURE_KINDS; failure++) {
        if (moment.failure && *moment.failure != failure) continue;
        moments_.push_back({static_cast<Point>(p), failure});
      }
    }
  }

  // Features that are not the same at all moments, or change with what is not given.
  std::uint64_t unknown_features() {
    std::uint64_t unknown = 0;
    for (std::size_t probe = 0; probe < kProbes; probe++) {
      const FeatureVector first = features(moments_.front(), probe);
      for (const auto& moment : moments_) {
        unknown |= differences(first, features(moment, probe));
      }
    }
    for (std::size_t i = 0; i < quantities().size(); i++) {
      const bool missing = (given_ & bit(i)) == 0 && !quantities()[i].assumed;
      if (missing && !quantities()[i].overrides) unknown |= reach(i);
    }
    return unknown;
  }

  // Features that change with a quantity, whatever the others are.
  std::uint64_t reach(std::size_t quantity) {
    std::uint64_t reached = 0;
    if ((applied_ & bit(quantity)) == 0 || quantities()[quantity].apply == nullptr) return 0;
    for (std::size_t probe = 0; probe < kProbes; probe++) {
      for (const auto& moment : moments_) {
        const FeatureVector base = features(moment, probe);
        for (const double value : quantities()[quantity].probes) {
          reached |= differences(base, features(moment, probe, quantity, value));
        }
      }
    }
    return reached;
  }

 private:
  struct Known {
    Point point;
    std::uint8_t failure;
  };

  FeatureVector features(const Known& moment, std::size_t probe,
                         std::size_t varied = kMostQuantities, double value = 0) {
    situation_.reset();
    situation_.seen.point = moment.point;
    situation_.seen.failure = moment.failure;
    for (std::size_t i = 0; i < quantities().size(); i++) {
      const Quantity& each = quantities()[i];
      if ((applied_ & bit(i)) == 0 || each.apply == nullptr) continue;
      const bool assumed = each.assumed && (given_ & bit(i)) == 0;
      const double usually = assumed ? *each.assumed : each.probes[probe];
      each.apply(i == varied ? value : usually, situation_);
    }
    return situation_.features();
  }

  std::uint64_t given_;
  std::uint64_t applied_;
  std::vector<Known> moments_;
  Situation situation_;
};

}  // namespace

Plan make_plan(const Moment& moment, std::uint64_t given) {
  const DecidingQuantities& is = deciding();
  // A status that told the failure has done its work, whatever else it does.
  std::uint64_t decided_by = bit(is.point) | bit(is.failure);
  if ((given & bit(is.failure)) == 0) decided_by |= bit(is.status);
  Trial trial(moment, given);
  Plan plan{.moment = moment, .unknown_features = trial.unknown_features()};
  for (std::size_t i = 0; i < quantities().size(); i++) {
    const bool reaches = (trial.reach(i) & ~plan.unknown_features) != 0;
    if ((given & bit(i)) != 0) {
      if (!reaches && (decided_by & bit(i)) == 0) plan.idle_quantities |= bit(i);
    } else if (reaches) {
      plan.assumed_quantities |= bit(i);
    }
  }
  return plan;
}

const Plan& Planner::plan(const Moment& moment, std::uint64_t given) {
  // 0 where it is not known; a moment has far fewer than 2^8 forms.
  const std::uint64_t point = moment.point ? 1 + static_cast<std::uint64_t>(*moment.point) : 0;
  const std::uint64_t failure = moment.failure ? 1U + *moment.failure : 0;
  const std::uint64_t key = given << 8 | point << 4 | failure;
  if (last_ != nullptr && key == last_key_) return *last_;
  const auto [found, added] = plans_.try_emplace(key);
  if (added) found->second = make_plan(moment, given);
  last_key_ = key;
  last_ = &found->second;
  return *last_;
}

std::uint64_t used_quantities() {
  static const std::uint64_t kUsed = [] {
    const DecidingQuantities& is = deciding();
    std::uint64_t used = bit(is.point) | bit(is.failure) | bit(is.status);
    for (std::size_t i = 0; i < quantities().size(); i++) {
      if (Trial({}, bit(i)).reach(i) != 0) used |= bit(i);
    }
    return used;
  }();
  return kUsed;
}

}  // namespace petrel
