// SPDX-License-Identifier: MIT
// Outcome: what users got of one run, and the meter that counts it.
//
// Definitions are those of the lab's scripts (scripts/lib/petrel_lab/outcome.py and timeline.py),
// so that a figure of either says the same. Times in the unit of the name.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "simulate/scenario.hpp"

namespace petrel::simulate {

struct Outcome {
  std::uint64_t requests = 0;
  std::uint64_t first_attempt_failures = 0;
  std::uint64_t retries = 0;
  double amplification = 0;          // attempts / requests
  double backend_amplification = 0;  // attempts that reached a backend / requests
  std::uint64_t never_served = 0;
  double p50_ms = 0, p99_ms = 0, p999_ms = 0;
  std::optional<double> moved_90_ms;
  std::optional<double> recovered_ms;
  // Beyond what the lab tells of.
  double goodput_share = 0;  // requests served in time, of all
  double cause_arrivals_per_s = 0;
  double cause_goodput_per_s = 0;    // served in time while the cause lasted
  double after_goodput_share = 0;    // served in time for each that came, after the cause
  std::uint64_t refused = 0;         // attempts, by balancers
  std::uint64_t refused_firsts = 0;  // of these: first attempts
  double wasted_share = 0;           // of what backends worked on: clients had left
  double ring_churn_per_min = 0;     // of a balancer's slots
};

// One second of a run.
struct Second {
  std::uint64_t requests = 0, served = 0, failures = 0, retries = 0, refused = 0;
  std::vector<double> factors;  // weights in force of the first balancer, at its end
};

// Times of requests in bins of 1/128 octave: within 0.6 %.
class LatencyHistogram {
 public:
  void add(std::uint64_t latency_ns);
  double quantile_ms(double part) const;
  std::uint64_t count() const { return count_; }
  double mean_ms() const { return count_ == 0 ? 0 : sum_ms_ / static_cast<double>(count_); }

 private:
  std::vector<std::uint64_t> bins_;
  std::uint64_t count_ = 0;
  double sum_ms_ = 0;
};

class Meter {
 public:
  explicit Meter(const Scenario& scenario);

  // All times are seconds since the run's begin.
  void on_request(double now_s);
  void on_attempt_placed(double now_s, std::uint32_t backend);  // or moved there
  void on_attempt_failed(double now_s, bool first, bool counts);
  void on_retry(double now_s, bool counts);
  void on_refused(double now_s, bool first);
  // A request has ended; `counts`: it came in the measured time.
  void on_served(double now_s, std::uint64_t latency_ns, bool counts);
  void on_given_up(std::uint64_t latency_ns);
  void on_worked(bool wasted) { (wasted ? wasted_ : worked_) += 1; }

  Outcome outcome() const;
  const LatencyHistogram& latencies() const { return latencies_; }
  std::vector<Second>& seconds() { return seconds_; }

 private:
  struct Bin {  // of kBinS
    std::uint32_t arrivals = 0, in_time = 0, placed = 0, placed_faulty = 0;
  };

  Bin& bin(double now_s);
  Second& second(double now_s);
  double goodput(double begin_s, double end_s) const;
  std::uint64_t sum(std::uint32_t Bin::*count, double begin_s, double end_s) const;
  std::optional<double> recovered_ms() const;
  std::optional<double> moved_90_ms() const;

  const Scenario& scenario_;
  std::vector<bool> faulty_;
  std::vector<Bin> bins_;
  std::vector<Second> seconds_;
  LatencyHistogram latencies_;
  std::uint64_t requests_ = 0, first_failures_ = 0, retries_ = 0, placed_ = 0, never_served_ = 0;
  std::uint64_t in_time_ = 0, refused_ = 0, refused_firsts_ = 0, worked_ = 0, wasted_ = 0;
};

}  // namespace petrel::simulate
