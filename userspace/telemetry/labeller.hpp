// SPDX-License-Identifier: MIT
// Labeller: turns the event stream into rows labelled by what then happened.
//
// Each outcome (an ANSWER, an END without one) yields a row, and rows for the ages of 8 ms * 2^k that its request (or SYN)
// passed while it waited, each with features as of the snapshot in force at that moment: no row
// sees its own future. Rows are held until the retry window after their request's last event has
// passed; a RETRY that names the request before then labels them 1. A handshake that succeeded is
// part of its connection's first request: the retry of that one labels it too. A NO_RETRY that names
// it takes the label back. Not thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "features/features.hpp"
#include "telemetry/row.hpp"

namespace petrel {

struct LabellerOptions {
  std::chrono::nanoseconds retry_window = std::chrono::seconds(5);
  std::chrono::nanoseconds snapshot_history = std::chrono::seconds(20);
  // How much later than its time_ns an event may still arrive; rows are held this much longer.
  std::chrono::nanoseconds lateness = std::chrono::milliseconds(500);
  size_t max_held_rows = 1'000'000;  // beyond: the oldest requests' rows are dropped
};

class Labeller {
 public:
  using Sink = std::function<void(const LabelledRow&)>;

  struct Counters {
    uint64_t written = 0;
    uint64_t retried = 0;              // of those written: label 1
    uint64_t dropped_full = 0;         // max_held_rows was reached
    uint64_t dropped_no_snapshot = 0;  // before the first tick, or older than the history
    uint64_t dropped_unfinished = 0;   // the capture ended within their retry window
    uint64_t retries_unmatched = 0;    // named a request that had no rows within the window
    uint64_t withdrawn = 0;            // labels taken back: another request was asked for
  };

  Labeller(LabellerOptions options, Sink sink);

  // The new snapshot of each tick, in order. Releases the rows whose window has passed.
  void on_tick(std::shared_ptr<const Snapshot> snapshot, uint64_t now_ns);

  void on_event(const bpf::event& event);

  // At the end of a capture: releases what is due; the rest has no known label and is dropped.
  void finish(uint64_t now_ns);

  const Counters& counters() const { return counters_; }
  size_t held_rows() const { return held_rows_; }

 private:
  // A request that rows are held for. A retry may come before its failure's own event does.
  struct RequestKey {
    bpf::address client;
    uint16_t port_be;
    uint16_t service_id;
    uint32_t request;
    uint64_t syn_ns;

    bool operator==(const RequestKey& other) const;
  };
  struct RequestKeyHash {
    size_t operator()(const RequestKey& key) const;
  };
  struct Held {
    RequestKey key;
    uint64_t last_ns = 0;   // last event of the request: its window begins here
    uint64_t retry_ns = 0;  // when a retry of it began; 0 = none
    uint8_t evidence = 0;
    uint8_t confidence = 255;
    std::vector<LabelledRow> rows;
  };
  using HeldList = std::list<Held>;  // by last_ns, roughly: in the order of their last events

  Held& hold(const RequestKey& key, uint64_t time_ns);
  void on_retry(const bpf::event& event);
  void on_no_retry(const bpf::event& event);
  static void note(Held& held, const bpf::event& event);
  void add_row(Held& held, const bpf::event& event, const Observation& observation,
               uint64_t time_ns);
  void add_waiting_rows(Held& held, const bpf::event& event, Point point, uint64_t begin_ns,
                        uint64_t waited_ns);
  const Snapshot* snapshot_at(uint64_t time_ns) const;
  void release(uint64_t now_ns);
  void drop_oldest();

  LabellerOptions options_;
  Sink sink_;
  std::deque<std::shared_ptr<const Snapshot>> snapshots_;  // ascending time_ns
  HeldList held_;
  std::unordered_map<RequestKey, HeldList::iterator, RequestKeyHash> by_key_;
  size_t held_rows_ = 0;
  Counters counters_;
};

}  // namespace petrel
