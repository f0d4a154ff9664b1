// SPDX-License-Identifier: MIT
#include "replay/replay.hpp"

#include <algorithm>

namespace petrel {
namespace {

std::uint64_t tick_of(const StateRow& row) { return row.tick; }
std::uint64_t tick_of(const EventRow& row) { return row.tick; }
std::uint64_t tick_of(const TickBackendRow& row) { return row.tick; }

// "risk_q16 1 live, 2 replayed; "
void add_pair(std::string& text, const char* name, std::uint64_t live, std::uint64_t replayed) {
  if (live == replayed) return;
  if (!text.empty()) text += "; ";
  text += std::string(name) + " " + std::to_string(live) + " live, " + std::to_string(replayed) +
          " replayed";
}

std::string difference_of(const Decided& live, const Decided& replayed) {
  std::string text;
  add_pair(text, "risk_q16", live.risk_q16, replayed.risk_q16);
  add_pair(text, "factor_q16", live.factor_q16, replayed.factor_q16);
  add_pair(text, "reason", live.reason, replayed.reason);
  add_pair(text, "slots", live.slots, replayed.slots);
  return text;
}

}  // namespace

template <class Row>
Result<void> Replay::Ahead<Row>::advance() {
  row.reset();
  auto more = rows->next();
  if (!more) return more.error();
  if (!*more) return {};
  return read_row(*rows, row.emplace());
}

template <class Row>
Result<void> Replay::begin(CaptureSource& source, const char* table, Ahead<Row>& ahead) {
  auto rows = source.rows(*find_capture_table(table));
  if (!rows) return rows.error();
  ahead.rows = std::move(*rows);
  return ahead.advance();
}

template <class Row, class Take>
Result<void> Replay::take_rows(Ahead<Row>& ahead, const Take& take) {
  while (ahead.row && tick_of(*ahead.row) <= tick_.tick) {
    if (tick_of(*ahead.row) == tick_.tick) take(*ahead.row);
    if (auto next = ahead.advance(); !next) return next;
  }
  return {};
}

Result<Replay> Replay::open(CaptureSource& source, WhatIf what_if) {
  for (const char* table : {"state", "events", "ticks", "tick_backends"}) {
    if (source.has(*find_capture_table(table))) continue;
    return Error(ExitCode::kInput, std::string("has no table ") + table +
                                       ": a replay needs state, events, ticks and tick_backends");
  }
  Replay replay(std::move(what_if));
  if (auto begun = replay.begin(source, "state", replay.state_); !begun) return begun.error();
  if (auto begun = replay.begin(source, "events", replay.event_); !begun) return begun.error();
  if (auto begun = replay.begin(source, "ticks", replay.next_tick_); !begun) return begun.error();
  if (auto begun = replay.begin(source, "tick_backends", replay.backend_); !begun) {
    return begun.error();
  }
  if (!replay.state_.row) {
    return Error(ExitCode::kInput, "holds no state of the loop: capture with --what replay");
  }
  return replay;
}

Result<bool> Replay::step() {
  for (;;) {
    if (!next_tick_.row) return false;
    const TickFacts told = *next_tick_.row;
    if (auto next = next_tick_.advance(); !next) return next.error();
    const bool follows = told.tick == tick_.tick + 1;
    tick_ = told;
    auto checkpoint = take_checkpoint();
    if (!checkpoint) return checkpoint.error();
    auto events = take_events();
    if (!events) return events.error();
    if (auto taken = take_backends(); !taken) return taken.error();
    if (!loop_) continue;  // before the first checkpoint there is nothing to stand on
    if (*checkpoint == Checkpoint::kWhole) in_gap_ = false;
    const bool begins = *checkpoint == Checkpoint::kWhole;
    const bool lost = *events != told.events || told_.size() != told.backends ||
                      *checkpoint == Checkpoint::kPart ||
                      (!begins && !follows);
    if (lost && !in_gap_) ++gaps_;
    in_gap_ |= lost;
    ++ticks_;
    events_ += *events;
    decide();
    compare(told.moved_slots, told.moved_hash);
    return true;
  }
}

Result<Replay::Checkpoint> Replay::take_checkpoint() {
  std::map<std::string, std::string> lines;
  auto taken = take_rows(state_, [&](StateRow& row) { lines[row.name] = std::move(row.value); });
  if (!taken) return taken.error();
  if (lines.empty()) return Checkpoint::kNone;
  const auto end = lines.find(std::string(kStateEnd));
  if (end == lines.end() || end->second != std::to_string(lines.size() - 1)) return Checkpoint::kPart;
  StateIn in(std::move(lines));
  auto loaded = Loop::load(in);
  if (!loaded) {
    return loaded.error().within("state of tick " + std::to_string(tick_.tick));
  }
  ++checkpoints_;
  live_.clear();
  if (!loop_ || !what_if_.any()) {
    loop_.emplace(std::move(*loaded));
  } else {
    loop_.emplace(carried_on(std::move(*loaded), *loop_));
  }
  apply(what_if_, *loop_);
  replayed_.clear();
  for (const ServiceLoop& service : loop_->services()) {
    for (const BackendLoop& backend : service.backends()) {
      replayed_[backend.config.id] = Decided::of(backend);
    }
  }
  return Checkpoint::kWhole;
}

Result<std::uint64_t> Replay::take_events() {
  std::uint64_t count = 0;
  auto taken = take_rows(event_, [&](const EventRow& row) {
    ++count;
    if (!loop_) return;
    loop_->on_event(row.event);
    if (observer_.on_event) observer_.on_event(row.event);
  });
  if (!taken) return taken.error();
  return count;
}

Result<void> Replay::take_backends() {
  told_.clear();
  auto taken = take_rows(backend_, [&](TickBackendRow& row) {
    live_[row.backend_id] = row.decided;
    told_.push_back(std::move(row));
  });
  std::ranges::sort(told_, {}, &TickBackendRow::backend_id);
  return taken;
}

void Replay::decide() {
  MoveHash moves;
  loop_->tick(
      tick_.time_ns, std::chrono::nanoseconds(tick_.elapsed_ns),
      [&](const ServiceLoop&, const BackendLoop& backend) {
        const auto told =
            std::ranges::lower_bound(told_, backend.config.id, {}, &TickBackendRow::backend_id);
        const bool is_told = told != told_.end() && told->backend_id == backend.config.id;
        return is_told ? told->inputs() : BackendTick{};  // else nothing waited, nothing was probed
      },
      [&](const ServiceLoop& service, std::span<const RingChange> changes) {
        moves.add(service.config().id, changes);
      });
  if (observer_.on_tick) observer_.on_tick(*loop_, tick_.time_ns);
  tick_.moved_slots = moves.slots();
  tick_.moved_hash = moves.hash();
  changes_.clear();
  for (const ServiceLoop& service : loop_->services()) {
    for (const BackendLoop& backend : service.backends()) {
      const Decided decided = Decided::of(backend);
      Decided& last = replayed_[backend.config.id];
      if (last == decided) continue;
      last = decided;
      changes_.push_back({service.config().id, backend.config.id, decided});
    }
  }
}

void Replay::compare(std::uint64_t slots, std::uint64_t hash) {
  if (in_gap_) return;
  ++compared_;
  tick_differs_ = false;
  for (const ServiceLoop& service : loop_->services()) {
    for (const BackendLoop& backend : service.backends()) {
      const auto live = live_.find(backend.config.id);
      const std::string name = "backend " + backend.config.name + " of " + service.config().name;
      if (live == live_.end()) {
        differ(name + ": not in the capture");
      } else if (const Decided decided = Decided::of(backend); !(decided == live->second)) {
        differ(name + ": " + difference_of(live->second, decided));
      }
    }
  }
  std::string moved;
  add_pair(moved, "moved slots", slots, tick_.moved_slots);
  if (moved.empty() && hash != tick_.moved_hash) moved = "as many slots moved, but other ones";
  if (!moved.empty()) differ(moved);
}

void Replay::differ(const std::string& what) {
  if (!tick_differs_) ++different_;
  tick_differs_ = true;
  if (!first_difference_) first_difference_ = Difference{tick_.tick, what};
}

}  // namespace petrel
