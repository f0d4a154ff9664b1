// SPDX-License-Identifier: MIT
#include "control/risk.hpp"

#include <algorithm>
#include <cmath>

namespace petrel {
namespace {

constexpr double kOneQ16 = 65536.0;
constexpr double kNormal95 = 1.959964;
constexpr double kNewest = 10;  // samples; of three one more or less bad is chance

double probability(std::uint32_t q16) {
  return std::min(q16 / kOneQ16, 1.0);
}

// Wilson's score interval of a share of `samples` outcomes. Probabilities vary less than the outcomes
// that they predict, so it is rather too wide.
void set_interval(double samples, RiskReading& reading) {
  if (samples <= 0) return;
  const double z2 = kNormal95 * kNormal95;
  const double middle = (reading.risk + z2 / (2 * samples)) / (1 + z2 / samples);
  const double half = kNormal95 / (1 + z2 / samples) *
                      std::sqrt(reading.risk * (1 - reading.risk) / samples +
                                z2 / (4 * samples * samples));
  reading.low = std::max(middle - half, 0.0);
  reading.high = std::min(middle + half, 1.0);
}

}  // namespace

void BackendRisk::add(std::uint32_t probability_q16, std::uint64_t count) {
  if (count == 0) return;
  const double risk = probability(probability_q16);
  const auto events = static_cast<double>(count);
  added_.risk += risk * events;
  added_.samples += events;

  // A running mean until history_samples were seen, from then on one with a fixed rate: each event
  // weighs the same however far apart in time they are.
  const double most = std::max(settings_.history_samples, 1.0);
  double left = events;
  for (; left >= 1 && slow_samples_ < most; --left) {
    slow_samples_ = std::min(slow_samples_ + 1, most);
    slow_ += (risk - slow_) / slow_samples_;
  }
  slow_ += (risk - slow_) * (1 - std::pow(1 - 1 / most, left));
}

void BackendRisk::add_waiting(std::uint64_t count, std::uint32_t probability_q16) {
  const auto requests = static_cast<double>(count);
  adding_waiting_.risk += probability(probability_q16) * requests;
  adding_waiting_.samples += requests;
}

void BackendRisk::end_tick(std::chrono::nanoseconds elapsed) {
  const double half_lives =
      std::chrono::duration<double>(elapsed) / std::chrono::duration<double>(settings_.half_life);
  const double kept = std::exp2(-std::max(half_lives, 0.0));
  fast_.risk = fast_.risk * kept + added_.risk;
  fast_.samples = fast_.samples * kept + added_.samples;
  const double room = std::max(kNewest - added_.samples, 0.0);
  const double left = newest_.samples * kept > room ? room / newest_.samples : kept;
  newest_.risk = newest_.risk * left + added_.risk;
  newest_.samples = newest_.samples * left + added_.samples;
  tick_ = added_;
  waiting_ = adding_waiting_;
  added_ = {};
  adding_waiting_ = {};
}

// What the window lacks of the last samples seen: those still in it must not count twice.
double BackendRisk::history_weight() const {
  return std::max(slow_samples_ - fast_.samples - waiting_.samples, 0.0);
}

RiskSum BackendRisk::sum() const {
  const double history = history_weight();
  return {fast_.risk + waiting_.risk + history * slow_, fast_.samples + waiting_.samples + history};
}

RiskReading BackendRisk::reading(double service_mean) const {
  const RiskSum window = sum();
  const double samples = window.samples + settings_.prior_samples;
  RiskReading reading;
  reading.risk =
      samples > 0 ? (window.risk + settings_.prior_samples * service_mean) / samples : service_mean;
  reading.risk = std::clamp(reading.risk, 0.0, 1.0);
  reading.risk_q16 = static_cast<std::uint32_t>(std::lround(reading.risk * kOneQ16));
  set_interval(samples, reading);
  reading.samples = window.samples;
  reading.fast = fast_.mean();
  reading.slow = slow_;
  reading.answered = static_cast<std::uint64_t>(tick_.samples);
  reading.waiting = static_cast<std::uint64_t>(waiting_.samples);
  RiskSum fresh = newest_;
  fresh += waiting_;
  reading.fresh = fresh.mean();
  return reading;
}

}  // namespace petrel
