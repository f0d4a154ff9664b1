// SPDX-License-Identifier: MIT
// Scenario: all that a run is made of but its policy and seed: clients, backends, what befalls
// them.
//
// Seconds count from the run's begin. Backends are numbered from 0. The catalogue is that of
// docs/simulator.md, which says where each one's numbers come from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace petrel::simulate {

class Random;

enum class Distribution : std::uint8_t { kConstant, kExponential, kLognormal, kNormal };

struct ServiceTime {
  Distribution distribution = Distribution::kLognormal;
  double mean_ms = 10;
  double spread = 0.5;  // lognormal: deviation of the logarithm; normal: standard deviation in ms

  double draw_ns(Random& random) const;
};

enum class RetryKind : std::uint8_t {
  kNone,
  kFixed,
  kExponential,  // full jitter: uniform from 0 to delay * 2^n, up to the cap
};

struct RetryPolicy {
  RetryKind kind = RetryKind::kExponential;
  double delay_ms = 100;
  double cap_ms = 5000;
  std::uint32_t max_attempts = 4;

  // After so many attempts have failed; nothing: it gives up.
  std::optional<std::uint64_t> delay_ns(std::uint32_t attempts, Random& random) const;
};

struct Clients {
  double rate_per_s = 800;  // open loop, Poisson
  std::uint32_t addresses = 4000;
  double timeout_ms = 1000;  // of an attempt
  RetryPolicy retry = {};
  double deadline_ms = 0;  // of a request, to count as served in time; 0: whenever it is served
  std::uint32_t hammers = 0;  // addresses that RateStep::hammer_share comes from; they are not measured
};

// The rate from then on, as a multiple of Clients::rate_per_s.
struct RateStep {
  double from_s = 0;
  double factor = 1;
  double hammer_share = 0;  // of the requests
};

enum class FaultKind : std::uint8_t {
  kHang,       // accepts and answers nothing; lets go of requests whose clients leave
  kStall,      // works on nothing; all that came is still there afterwards
  kReset,      // RST after the handshake
  kRefuse,     // RST in answer to a SYN
  kBlackhole,  // neither answers SYNs nor does what it answers arrive
  kSlow,       // service times are `factor` times as long
  kErrors,     // a share of the requests is answered 503
  kRestart,    // what it has is lost, then it refuses
  kDrain,      // not a fault: the balancers are told to place nothing there
  kSpeedWalk,  // speed drawn anew each `period_s`, uniformly from `low` to `high`
};

struct Fault {
  FaultKind kind = FaultKind::kHang;
  double from_s = 0;
  double until_s = 0;
  std::uint32_t first = 0;  // backends first to first + count - 1
  std::uint32_t count = 1;
  double factor = 1;
  double share = 1;   // errors: of the requests; hang, blackhole: of the paths that lead there
  bool ramp = false;  // slow: from 1 to `factor` over the fault's time
  double period_s = 0;
  double low = 1, high = 1;
};

// How the network spreads connections over balancers.
enum class Spread : std::uint8_t {
  kFlow,    // by client address and port: a retry comes to any of them
  kClient,  // by client address: to the same one
};

struct Scenario {
  std::string name;
  std::string what;
  double duration_s = 30;
  std::uint32_t balancers = 1;
  Spread spread = Spread::kFlow;
  std::uint32_t backends = 4;
  std::uint32_t concurrency = 16;  // requests that a backend works on at once
  std::uint32_t queue = 1024;      // that may wait for it; more are answered 503
  ServiceTime service_time;
  std::vector<double> sizes;     // concurrency of single backends, as a part; missing: 1
  double connect_us = 100;       // SYN to request at the backend
  bool notices_leaving = false;  // a queued request ends when its client leaves
  Clients clients;
  std::vector<RateStep> rate_steps;  // by from_s
  std::vector<Fault> faults;
  double cause_from_s = 0;  // of what is measured before, during and after; 0 to 0: nothing
  double cause_until_s = 0;
  std::vector<std::uint32_t> faulty;  // backends of which moved_90_ms tells
  double measured_from_s = 0;         // requests that come earlier do not count

  // Requests a second that all backends can serve, in good health.
  double capacity_per_s() const;
  // Another number of backends: what befell all of them still does.
  void set_backends(std::uint32_t count);
  // Takes other times for the cause, and with it for all faults that begin with it.
  void set_cause_duration(double seconds);
};

// All of the catalogue, in the order in which they are listed.
const std::vector<Scenario>& scenarios();
const Scenario* find_scenario(std::string_view name);

}  // namespace petrel::simulate
