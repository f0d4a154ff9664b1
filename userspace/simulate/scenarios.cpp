// SPDX-License-Identifier: MIT
// The catalogue of scenarios. docs/simulator.md says where their numbers come from.
#include "simulate/scenario.hpp"

namespace petrel::simulate {
namespace {

constexpr double kFromS = 8, kUntilS = 20;  // of scripts/demo: the lab's scenarios are the same
constexpr std::uint32_t kUnbounded = 1'000'000'000;

// scripts/demo without a fault: 4 backends of petrel-traffic, 800 requests a second, 30 s.
Scenario lab(std::string name, std::string what) {
  Scenario scenario;
  scenario.name = std::move(name);
  scenario.what = std::move(what);
  return scenario;
}

void cause(Scenario& scenario, double from_s, double until_s) {
  scenario.cause_from_s = from_s;
  scenario.cause_until_s = until_s;
}

void add_fault(Scenario& scenario, Fault fault, bool is_moved_off) {
  fault.from_s = scenario.cause_from_s;
  fault.until_s = scenario.cause_until_s;
  if (is_moved_off) {
    for (std::uint32_t i = 0; i < fault.count; ++i) scenario.faulty.push_back(fault.first + i);
  }
  scenario.faults.push_back(fault);
}

// The second of the lab's backends at fault, from second 8 to 20.
Scenario lab_fault(std::string name, std::string what, Fault fault) {
  Scenario scenario = lab(std::move(name), std::move(what));
  cause(scenario, kFromS, kUntilS);
  fault.first = 1;
  add_fault(scenario, fault, true);
  return scenario;
}

// Four small backends, 1,600 requests a second at most, that work on for clients that have left.
Scenario busy(std::string name, std::string what, double load) {
  Scenario scenario;
  scenario.name = std::move(name);
  scenario.what = std::move(what);
  scenario.concurrency = 4;
  scenario.queue = kUnbounded;
  scenario.clients.rate_per_s = load * scenario.capacity_per_s();
  return scenario;
}

// The other three can carry 1,200 of the 1,440 a second that are asked for. A mover that takes all of it
// off b2, which answers half of it well, has them all in trouble.
Scenario cascade() {
  Scenario scenario =
      busy("cascade", "b2 answers half of its requests 503, and the other three cannot carry all", 0.9);
  cause(scenario, kFromS, kUntilS);
  add_fault(scenario, {.kind = FaultKind::kErrors, .first = 1, .share = 0.5}, false);
  return scenario;
}

Scenario flap() {
  Scenario scenario = lab("flap", "b2 refuses for 2 s of each 4");
  cause(scenario, kFromS, kUntilS);
  for (double from_s = kFromS; from_s < kUntilS; from_s += 4) {
    scenario.faults.push_back(
        {.kind = FaultKind::kRefuse, .from_s = from_s, .until_s = from_s + 2, .first = 1});
  }
  return scenario;
}

Scenario zone() {
  Scenario scenario = lab("zone", "2 of 6 backends hang");
  scenario.backends = 6;
  scenario.clients.rate_per_s = 1200;
  cause(scenario, kFromS, kUntilS);
  add_fault(scenario, {.kind = FaultKind::kHang, .count = 2}, true);
  return scenario;
}

Scenario all_bad() {
  Scenario scenario = lab("all-bad", "each backend answers half of its requests 503");
  cause(scenario, kFromS, kUntilS);
  add_fault(scenario, {.kind = FaultKind::kErrors, .count = scenario.backends, .share = 0.5},
            false);
  return scenario;
}

Scenario two_faults() {
  Scenario scenario =
      lab_fault("two-faults", "b2 hangs while b3 answers half 503", {.kind = FaultKind::kHang});
  scenario.faults.push_back(
      {.kind = FaultKind::kErrors, .from_s = kFromS, .until_s = kUntilS, .first = 2, .share = 0.5});
  scenario.faulty.push_back(2);
  return scenario;
}

Scenario overload() {
  Scenario scenario = busy("overload", "requests from 70 to 120 % of capacity for 10 s", 0.7);
  scenario.duration_s = 45;
  cause(scenario, 10, 20);
  scenario.rate_steps = {{10, 1.2 / 0.7}, {20, 1}};
  return scenario;
}

Scenario hammer() {
  Scenario scenario =
      busy("hammer", "12 of 4,012 addresses ask for as much as all others, 140 % of capacity, for 10 s", 0.7);
  scenario.duration_s = 45;
  cause(scenario, 10, 20);
  scenario.clients.hammers = 12;
  scenario.rate_steps = {{10, 2, 0.5}, {20, 1}};
  return scenario;
}

Scenario storm(std::string name, std::string what, double outage_s) {
  Scenario scenario = busy(std::move(name), std::move(what), 0.8);
  scenario.duration_s = 40 + outage_s;
  cause(scenario, 10, 10 + outage_s);
  scenario.clients.retry = {RetryKind::kFixed, 100, 100, 4};
  add_fault(scenario, {.kind = FaultKind::kStall, .count = scenario.backends}, false);
  return scenario;
}

Scenario restart() {
  Scenario scenario =
      lab("restart", "each backend drained for 2 s, then restarted in 1 s, in turn");
  cause(scenario, 5, 25);
  for (std::uint32_t i = 0; i < scenario.backends; ++i) {
    const double from_s = 5 + 5.0 * i;
    scenario.faults.push_back(
        {.kind = FaultKind::kDrain, .from_s = from_s, .until_s = from_s + 4, .first = i});
    scenario.faults.push_back(
        {.kind = FaultKind::kRestart, .from_s = from_s + 2, .until_s = from_s + 3, .first = i});
  }
  return scenario;
}

Scenario unequal() {
  Scenario scenario = busy("unequal", "b1 is half as large as its weight says", 0.5);
  scenario.sizes = {0.5};
  scenario.clients.rate_per_s = 900;  // b1 can serve 200 of its 225
  return scenario;
}

Scenario herd() {
  Scenario scenario = busy("herd", "all refuse for 5 s and are back at once", 0.8);
  scenario.duration_s = 45;
  cause(scenario, 10, 15);
  add_fault(scenario, {.kind = FaultKind::kRefuse, .count = scenario.backends}, false);
  return scenario;
}

// Linkerd's published trial ("Beyond round robin: load balancing for latency", linkerd.io, 2016).
Scenario one_slow_of_11(std::string name, std::string what, double timeout_ms) {
  Scenario scenario;
  scenario.name = std::move(name);
  scenario.what = std::move(what);
  scenario.duration_s = 60;
  scenario.backends = 11;
  scenario.concurrency = 4096;
  scenario.service_time = {Distribution::kNormal, 167, 5};
  scenario.clients = {.rate_per_s = 1000,
                      .timeout_ms = timeout_ms,
                      .retry = {.kind = RetryKind::kNone},
                      .deadline_ms = 1000};
  cause(scenario, 15, 45);
  add_fault(scenario, {.kind = FaultKind::kSlow, .factor = 2000.0 / 167}, true);
  return scenario;
}

// After L. Huang et al., "Metastable Failures in the Wild", OSDI 2022: 3 servers at 90 % of
// capacity, 3 s timeout, 4 retries, capacity cut by 80 %. A tenth of its 6,200 requests a second.
Scenario capacity_drop() {
  Scenario scenario;
  scenario.name = "capacity-drop";
  scenario.what = "3 servers at 90 % of capacity, which is cut by 80 % for 10 s";
  scenario.duration_s = 90;
  scenario.backends = 3;
  scenario.concurrency = 4;
  scenario.queue = kUnbounded;
  scenario.service_time = {Distribution::kExponential, 20, 0};
  scenario.clients = {.rate_per_s = 540, .timeout_ms = 3000};
  scenario.clients.retry.max_attempts = 5;
  cause(scenario, 20, 30);
  add_fault(scenario, {.kind = FaultKind::kSlow, .count = 3, .factor = 5}, false);
  return scenario;
}

// The design's trial: four servers whose speed changes every 5 s between 0.5 and 1.2.
Scenario speeds(std::string name, double load) {
  Scenario scenario;
  scenario.name = std::move(name);
  scenario.what = "4 servers, speed 0.5 to 1.2 drawn each 5 s, load " +
                  std::to_string(static_cast<int>(load * 100 + 0.5)) + " % of the mean";
  scenario.duration_s = 120;
  scenario.concurrency = 4;
  scenario.queue = kUnbounded;
  scenario.service_time = {Distribution::kExponential, 20, 0};
  scenario.clients = {.rate_per_s = load * 0.85 * scenario.capacity_per_s(), .timeout_ms = 10000};
  scenario.clients.retry.kind = RetryKind::kNone;
  scenario.faults.push_back({.kind = FaultKind::kSpeedWalk,
                             .until_s = 120,
                             .count = 4,
                             .period_s = 5,
                             .low = 0.5,
                             .high = 1.2});
  return scenario;
}

// After Prequal's evaluation: neighbours leave each server more than its allocation, at changing
// times.
Scenario antagonist(std::string name, double load) {
  Scenario scenario;
  scenario.name = std::move(name);
  scenario.what = "4 servers, each 0.6 to 2 times its allocation, load " +
                  std::to_string(static_cast<int>(load * 100 + 0.5)) + " % of it";
  scenario.duration_s = 60;
  scenario.concurrency = 4;
  scenario.queue = kUnbounded;
  scenario.service_time = {Distribution::kExponential, 20, 0};
  scenario.clients = {.rate_per_s = load * scenario.capacity_per_s(), .timeout_ms = 5000};
  scenario.clients.retry.kind = RetryKind::kNone;
  scenario.faults.push_back({.kind = FaultKind::kSpeedWalk,
                             .until_s = 60,
                             .count = 4,
                             .period_s = 2,
                             .low = 0.6,
                             .high = 2.0});
  return scenario;
}

Scenario scale() {
  Scenario scenario;
  scenario.name = "scale";
  scenario.what = "100 balancers, 1,000 backends, 1,000,000 requests a second; 10 backends hang";
  scenario.duration_s = 3;
  scenario.balancers = 100;
  scenario.backends = 1000;
  scenario.clients.rate_per_s = 1e6;
  scenario.clients.addresses = 1'000'000;
  cause(scenario, 1, 2);
  add_fault(scenario, {.kind = FaultKind::kHang, .count = 10}, true);
  return scenario;
}

std::vector<Scenario> make_scenarios() {
  std::vector<Scenario> list;
  list.push_back(lab("healthy", "4 backends, 800 requests a second, nothing amiss"));
  list.push_back(lab_fault("hang", "b2 accepts and answers nothing", {.kind = FaultKind::kHang}));
  list.push_back(lab_fault("reset", "b2 resets each connection", {.kind = FaultKind::kReset}));
  list.push_back(lab_fault("refuse", "b2 refuses each connection", {.kind = FaultKind::kRefuse}));
  list.push_back(lab_fault("blackhole", "b2's packets are lost", {.kind = FaultKind::kBlackhole}));
  list.push_back(
      lab_fault("slow", "b2 takes 5 times as long", {.kind = FaultKind::kSlow, .factor = 5}));
  list.push_back(
      lab_fault("crawl", "b2 takes 50 times as long", {.kind = FaultKind::kSlow, .factor = 50}));
  list.push_back(lab_fault("errors", "b2 answers 20 % of its requests 503",
                           {.kind = FaultKind::kErrors, .share = 0.2}));
  list.push_back(lab_fault("errors-50", "b2 answers half of its requests 503",
                           {.kind = FaultKind::kErrors, .share = 0.5}));
  list.push_back(lab_fault("brownout", "b2 slows down to a fiftieth within 12 s",
                           {.kind = FaultKind::kSlow, .factor = 50, .ramp = true}));
  list.push_back(
      lab_fault("gray", "one path in ten to b2 is dead", {.kind = FaultKind::kHang, .share = 0.1}));
  list.push_back(cascade());
  list.push_back(flap());
  list.push_back(zone());
  list.push_back(all_bad());
  list.push_back(two_faults());
  list.push_back(overload());
  list.push_back(hammer());
  list.push_back(
      storm("storm", "nobody works for 3 s; clients try again 3 times, 100 ms apart", 3));
  list.push_back(restart());
  list.push_back(unequal());
  list.push_back(herd());
  list.push_back(one_slow_of_11(
      "one-slow-of-11", "one of 11 answers in 2 s for 30 s; clients leave after 1 s", 1000));
  list.push_back(one_slow_of_11("one-slow-patient",
                                "the same, and clients wait: served means within 1 s all the same",
                                10000));
  list.push_back(capacity_drop());
  list.push_back(antagonist("antagonist-75", 0.75));
  list.push_back(antagonist("antagonist-103", 1.03));
  list.push_back(antagonist("antagonist-127", 1.27));
  list.push_back(speeds("speeds-60", 0.6));
  list.push_back(speeds("speeds-80", 0.8));
  list.push_back(speeds("speeds-95", 0.95));
  list.push_back(scale());
  return list;
}

}  // namespace

const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> list = make_scenarios();
  return list;
}

}  // namespace petrel::simulate
