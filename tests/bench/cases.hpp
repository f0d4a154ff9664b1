// SPDX-License-Identifier: MIT
// The cases of the packet benchmark: which stream, through which world, and what must come of it.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "tests/bench/driver.hpp"
#include "tests/bench/world.hpp"

namespace petrel::bench {

// Of all packets of the stream, at least this share (`above`) or at most (`!above`) is counted so.
struct Expectation {
  bpf::verdict verdict;
  double share;
  bool above = true;
};

struct Case {
  std::string name;
  World* world = nullptr;      // nullptr: one of the driver's own programs
  test::Packet packet;
  bench_stream stream{};
  std::uint32_t packets = 0;   // of one run
  std::vector<Reference> base; // its cost without the program under test: the mean of these
  std::vector<Expectation> expected;
  std::function<void()> prepare;  // before each run, not timed
};

// The shortest of `runs` runs, less the shortest of as many with an empty program: ns a packet.
// Throws std::runtime_error when the verdicts are not as expected.
double sample(Driver& driver, Case& which, int runs);

// All worlds and cases; those that could not be set up are in `failures` ("name: why").
class Cases {
 public:
  // `flows`: of established_100k.
  Cases(Driver& driver, std::uint32_t flows);

  std::vector<Case>& all() { return cases_; }
  const std::vector<std::string>& failures() const { return failures_; }

 private:
  void add(const std::string& name, const std::function<Case()>& make);
  World& world(const WorldOptions& options);
  Case stream_to(World& world, const test::Packet& packet);
  void add_references(std::uint32_t flows);
  void add_scoring();
  void add_established(World& on, World& off, std::uint32_t flows);
  void add_syns();
  void add_retries();
  void add_dsr();

  Driver& driver_;
  std::list<World> worlds_;
  std::vector<Case> cases_;
  std::vector<std::string> failures_;
};

}  // namespace petrel::bench
