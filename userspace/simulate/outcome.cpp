// SPDX-License-Identifier: MIT
#include "simulate/outcome.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace petrel::simulate {
namespace {

// As in outcome.py and timeline.py.
constexpr double kBinS = 0.05;
constexpr double kWindowS = 0.5;
constexpr double kLeastRequests = 200;
constexpr double kStaysS = 1.0;
constexpr double kRecoveredShare = 0.95;
constexpr double kMovedShare = 0.1;
constexpr int kMovedBins = 3;  // 0.15 s
constexpr double kMovedLeastConnections = 20;

constexpr std::uint32_t kBinsPerOctave = 128;
constexpr std::uint32_t kLeastOctave = 10;  // 1 us
constexpr double kNsPerMs = 1e6;

std::uint32_t bin_of(std::uint64_t latency_ns) {
  const std::uint64_t at_least = std::max<std::uint64_t>(latency_ns, 1ULL << kLeastOctave);
  const auto octave = static_cast<std::uint32_t>(std::bit_width(at_least) - 1);
  const auto within =
      static_cast<std::uint32_t>((at_least - (1ULL << octave)) * kBinsPerOctave >> octave);
  return (octave - kLeastOctave) * kBinsPerOctave + within;
}

double middle_ns(std::uint32_t bin) {
  const double octave = bin / kBinsPerOctave + kLeastOctave;
  const double within = (bin % kBinsPerOctave + 0.5) / kBinsPerOctave;
  return std::exp2(octave) * (1 + within);
}

std::size_t index_of(double seconds) {
  return static_cast<std::size_t>(std::max(0.0, std::floor(seconds / kBinS + 1e-9)));
}

}  // namespace

void LatencyHistogram::add(std::uint64_t latency_ns) {
  const std::uint32_t bin = bin_of(latency_ns);
  if (bin >= bins_.size()) bins_.resize(bin + 1);
  ++bins_[bin];
  ++count_;
  sum_ms_ += static_cast<double>(latency_ns) / kNsPerMs;
}

double LatencyHistogram::quantile_ms(double part) const {
  if (count_ == 0) return 0;
  const auto wanted = static_cast<std::uint64_t>(std::ceil(part * static_cast<double>(count_)));
  std::uint64_t seen = 0;
  for (std::uint32_t i = 0; i < bins_.size(); ++i) {
    seen += bins_[i];
    if (seen >= std::max<std::uint64_t>(wanted, 1)) return middle_ns(i) / kNsPerMs;
  }
  return middle_ns(static_cast<std::uint32_t>(bins_.size() - 1)) / kNsPerMs;
}

Meter::Meter(const Scenario& scenario) : scenario_(scenario), faulty_(scenario.backends) {
  for (const std::uint32_t backend : scenario.faulty) faulty_[backend] = true;
  bins_.resize(index_of(scenario.duration_s) + 2);
}

Meter::Bin& Meter::bin(double now_s) {
  const std::size_t index = index_of(now_s);
  if (index >= bins_.size()) bins_.resize(index + 1);
  return bins_[index];
}

Second& Meter::second(double now_s) {
  const auto index = static_cast<std::size_t>(now_s);
  if (index >= seconds_.size()) seconds_.resize(index + 1);
  return seconds_[index];
}

void Meter::on_request(double now_s) {
  ++bin(now_s).arrivals;
  ++second(now_s).requests;
  if (now_s >= scenario_.measured_from_s) ++requests_;
}

void Meter::on_attempt_placed(double now_s, std::uint32_t backend) {
  Bin& at = bin(now_s);
  ++at.placed;
  if (faulty_[backend]) ++at.placed_faulty;
  if (now_s >= scenario_.measured_from_s) ++placed_;
}

void Meter::on_attempt_failed(double now_s, bool first, bool counts) {
  ++second(now_s).failures;
  if (first && counts) ++first_failures_;
}

void Meter::on_retry(double now_s, bool counts) {
  ++second(now_s).retries;
  if (counts) ++retries_;
}

void Meter::on_refused(double now_s, bool first) {
  ++second(now_s).refused;
  ++refused_;
  if (first) ++refused_firsts_;
}

void Meter::on_served(double now_s, std::uint64_t latency_ns, bool counts) {
  const bool in_time = scenario_.clients.deadline_ms <= 0 ||
                       static_cast<double>(latency_ns) <= scenario_.clients.deadline_ms * kNsPerMs;
  ++second(now_s).served;
  if (in_time) ++bin(now_s).in_time;
  if (!counts) return;
  latencies_.add(latency_ns);
  if (in_time) ++in_time_;
}

void Meter::on_given_up(std::uint64_t latency_ns) {
  latencies_.add(latency_ns);
  ++never_served_;
}

std::uint64_t Meter::sum(std::uint32_t Bin::*count, double begin_s, double end_s) const {
  std::uint64_t total = 0;
  const std::size_t end = std::min(index_of(end_s), bins_.size());
  for (std::size_t i = index_of(begin_s); i < end; ++i) total += bins_[i].*count;
  return total;
}

double Meter::goodput(double begin_s, double end_s) const {
  const std::uint64_t arrived = sum(&Bin::arrivals, begin_s, end_s);
  if (arrived == 0) return 0;
  return static_cast<double>(sum(&Bin::in_time, begin_s, end_s)) / static_cast<double>(arrived);
}

std::optional<double> Meter::recovered_ms() const {
  if (scenario_.cause_until_s <= scenario_.cause_from_s) return std::nullopt;
  const double before = goodput(scenario_.measured_from_s, scenario_.cause_from_s);
  const double end_s = scenario_.duration_s;
  if (before <= 0) return std::nullopt;
  const double rate = static_cast<double>(sum(&Bin::arrivals, 0, end_s)) / end_s;
  const double width_s = std::ceil(std::max(kWindowS, kLeastRequests / rate) / kBinS) * kBinS;
  const int stays = static_cast<int>(std::lround(kStaysS / kBinS));
  int good = 0;
  for (int step = 0;; ++step) {
    const double begin_s = scenario_.cause_until_s + step * kBinS;
    if (begin_s + width_s > end_s + 1e-9) return std::nullopt;
    good = goodput(begin_s, begin_s + width_s) >= kRecoveredShare * before ? good + 1 : 0;
    if (good >= stays) return (step - stays + 1) * kBinS * 1000;
  }
}

std::optional<double> Meter::moved_90_ms() const {
  if (scenario_.faulty.empty()) return std::nullopt;
  const double share =
      static_cast<double>(scenario_.faulty.size()) / static_cast<double>(scenario_.backends);
  const std::size_t begin = index_of(scenario_.cause_from_s);
  const std::size_t end = std::min(index_of(scenario_.cause_until_s), bins_.size());
  for (std::size_t first = begin; first < end; ++first) {
    std::uint64_t placed = 0, faulty = 0;
    for (std::size_t last = first; last < end; ++last) {
      placed += bins_[last].placed;
      faulty += bins_[last].placed_faulty;
      const double fair = static_cast<double>(placed) * share;
      if (last + 1 < first + kMovedBins || fair < kMovedLeastConnections) continue;
      if (static_cast<double>(faulty) < kMovedShare * fair) {
        return static_cast<double>(first - begin) * kBinS * 1000;
      }
      break;
    }
  }
  return std::nullopt;
}

Outcome Meter::outcome() const {
  Outcome out;
  const auto requests = static_cast<double>(std::max<std::uint64_t>(requests_, 1));
  out.requests = requests_;
  out.first_attempt_failures = first_failures_;
  out.retries = retries_;
  out.amplification = 1 + static_cast<double>(retries_) / requests;
  out.backend_amplification = static_cast<double>(placed_) / requests;
  out.never_served = never_served_;
  out.p50_ms = latencies_.quantile_ms(0.5);
  out.p99_ms = latencies_.quantile_ms(0.99);
  out.p999_ms = latencies_.quantile_ms(0.999);
  out.moved_90_ms = moved_90_ms();
  out.recovered_ms = recovered_ms();
  out.goodput_share = static_cast<double>(in_time_) / requests;
  const double cause_s = scenario_.cause_until_s - scenario_.cause_from_s;
  if (cause_s > 0) {
    const double from = scenario_.cause_from_s, until = scenario_.cause_until_s;
    out.cause_arrivals_per_s = static_cast<double>(sum(&Bin::arrivals, from, until)) / cause_s;
    out.cause_goodput_per_s = static_cast<double>(sum(&Bin::in_time, from, until)) / cause_s;
    out.after_goodput_share = goodput(until, scenario_.duration_s);
  }
  out.refused = refused_;
  out.refused_firsts = refused_firsts_;
  const std::uint64_t worked = worked_ + wasted_;
  out.wasted_share = worked == 0 ? 0 : static_cast<double>(wasted_) / static_cast<double>(worked);
  return out;
}

}  // namespace petrel::simulate
