// SPDX-License-Identifier: MIT
// Holdout: are flows that go by the learned weights retried less than those that ignore them?
//
// A random part of flows, the holdout, keeps the configured weights. What became of requests of both is
// counted by parts of a sliding window, while the weights differ at all. The interval of the
// difference of their retry rates is the wider of two: Newcombe's for two proportions (few retries)
// and that of the parts' own spread (requests of one second share its trouble). It is looked at each
// second, so that harm needs far more than 95 %. Harm makes a service neutral for a time that doubles
// with each time it is found. Pure: time comes in as a number.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace petrel {

struct HoldoutSettings {
  std::uint64_t window_ns = 60'000'000'000;
  double z = 4;                         // of both bounds: once in 30,000 looks by chance
  std::uint64_t least_holdout = 100;    // requests, of the holdout
  double least_harm = 0.01;             // of the rest's rate over the holdout's
  std::uint64_t first_rest_ns = 300'000'000'000;  // neutral after harm
  std::uint64_t longest_rest_ns = 14'400'000'000'000;
};

// The rest's retry rate less the holdout's: below 0 is what the weights save.
struct HoldoutMeasures {
  std::uint64_t holdout = 0;  // requests
  std::uint64_t rest = 0;
  std::uint64_t holdout_retried = 0;
  std::uint64_t rest_retried = 0;
  bool known = false;         // enough of both for what follows
  double difference = 0;
  double low = 0;
  double high = 0;

  // Of the window's requests, by the difference and its bounds; below 0: retries made.
  double avoided() const { return -difference * static_cast<double>(rest); }
  double avoided_low() const { return -high * static_cast<double>(rest); }
  double avoided_high() const { return -low * static_cast<double>(rest); }
};

class Holdout {
 public:
  static constexpr std::size_t kParts = 60;

  explicit Holdout(HoldoutSettings settings = {}) : settings_(settings) {}

  // A request was placed while the service's weights were not the configured ones, and has ended; or one
  // that had been counted was retried; or a retry's label was taken back.
  void add_request(bool in_holdout, std::uint64_t now_ns);
  void add_retry(bool in_holdout, std::uint64_t now_ns);
  void take_back_retry(bool in_holdout, std::uint64_t now_ns);

  HoldoutMeasures measure(std::uint64_t now_ns) const;

  // Each second or so. True where is_harmed() has changed.
  bool judge(std::uint64_t now_ns);
  // The weights do harm, or did so lately: neutral until harmed_until_ns().
  bool is_harmed() const { return harmed_until_ns_ != 0; }
  std::uint64_t harmed_until_ns() const { return harmed_until_ns_; }
  std::uint64_t harms() const { return harms_; }  // ever
  // What it was found by; while harmed.
  const HoldoutMeasures& evidence() const { return evidence_; }
  // By hand: let them act again, and count anew.
  void release();
  // What an earlier agent found: how often, for how long it was neutral then, and until when it is to be
  // (0: no longer).
  void resume(std::uint64_t harms, std::uint64_t rest_ns, std::uint64_t until_ns);
  std::uint64_t rest_ns() const { return rest_ns_; }  // of the last harm; 0: there was none

 private:
  struct Group {
    std::uint64_t requests = 0;
    std::uint64_t retried = 0;
  };
  struct Part {
    std::uint64_t number = 0;  // since the clock's zero, plus 1; 0: none yet
    std::array<Group, 2> groups{};  // the rest, the holdout
  };
  Group& at(bool in_holdout, std::uint64_t now_ns);
  std::uint64_t part_number(std::uint64_t now_ns) const;

  HoldoutSettings settings_;
  std::array<Part, kParts> parts_{};
  std::uint64_t harmed_until_ns_ = 0;
  std::uint64_t rest_ns_ = 0;  // of the last harm
  std::uint64_t harms_ = 0;
  HoldoutMeasures evidence_;
};

}  // namespace petrel
