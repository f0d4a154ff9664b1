// SPDX-License-Identifier: MIT
// Replay: a capture's events and ticks through the loop that the agent runs, and what it decides.
//
// Begins at the capture's first checkpoint and takes up each later one, so that reloads and drains
// are followed. Reads each table once, in step. The same capture gives the same decisions on every
// host: all arithmetic is integers, or IEEE 754 doubles in one order.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture/rows.hpp"
#include "replay/what_if.hpp"

namespace petrel {

// One backend, after a tick that has changed something of it.
struct BackendChange {
  std::uint32_t service_id = 0;
  std::uint32_t backend_id = 0;
  Decided decided;
};

// Where what was decided live and what the replay decides part.
struct Difference {
  std::uint64_t tick = 0;
  std::string what;  // "backend b2 of web: risk 65536 live, 65535 replayed"
};

class Replay {
 public:
  // `source` outlives it. kInput where the capture holds nothing to replay.
  static Result<Replay> open(CaptureSource& source, WhatIf what_if);

  // Each event that the loop has taken, and each tick that it has decided: for who makes rows of them.
  struct Observer {
    std::function<void(const bpf::event&)> on_event;
    std::function<void(const Loop&, std::uint64_t now_ns)> on_tick;
  };
  void observe(Observer observer) { observer_ = std::move(observer); }

  // The next tick; false at the end.
  Result<bool> step();

  // Of the last step.
  const TickFacts& tick() const { return tick_; }  // moves as replayed
  const std::vector<BackendChange>& changes() const { return changes_; }
  const Loop& loop() const { return *loop_; }

  // Of all steps.
  std::uint64_t ticks() const { return ticks_; }
  std::uint64_t events() const { return events_; }
  std::uint64_t checkpoints() const { return checkpoints_; }
  std::uint64_t compared() const { return compared_; }  // ticks; those behind a gap are not
  std::uint64_t gaps() const { return gaps_; }          // lines were lost: until the next checkpoint
  std::uint64_t different() const { return different_; }  // ticks
  const std::optional<Difference>& first_difference() const { return first_difference_; }

 private:
  // A table's rows, one ahead.
  template <class Row>
  struct Ahead {
    std::unique_ptr<CaptureRows> rows;
    std::optional<Row> row;

    Result<void> advance();
  };

  explicit Replay(WhatIf what_if) : what_if_(std::move(what_if)) {}
  template <class Row>
  Result<void> begin(CaptureSource& source, const char* table, Ahead<Row>& ahead);
  // Hands over the rows of the tick in hand; those of earlier ones had no tick, and are left out.
  template <class Row, class Take>
  Result<void> take_rows(Ahead<Row>& ahead, const Take& take);

  enum class Checkpoint { kNone, kPart, kWhole };
  Result<Checkpoint> take_checkpoint();
  Result<std::uint64_t> take_events();
  Result<void> take_backends();
  void decide();
  void compare(std::uint64_t slots, std::uint64_t hash);
  void differ(const std::string& what);

  WhatIf what_if_;
  Observer observer_;
  Ahead<StateRow> state_;
  Ahead<EventRow> event_;
  Ahead<TickFacts> next_tick_;
  Ahead<TickBackendRow> backend_;
  std::optional<Loop> loop_;
  std::vector<TickBackendRow> told_;                // of the tick in hand, by backend id
  std::map<std::uint32_t, Decided> live_;           // as last told, by backend id
  std::map<std::uint32_t, Decided> replayed_;
  TickFacts tick_;
  std::vector<BackendChange> changes_;
  bool in_gap_ = false;
  bool tick_differs_ = false;
  std::uint64_t ticks_ = 0, events_ = 0, checkpoints_ = 0, compared_ = 0, gaps_ = 0;
  std::uint64_t different_ = 0;
  std::optional<Difference> first_difference_;
};

}  // namespace petrel
