// SPDX-License-Identifier: MIT
#include "telemetry/labeller.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace petrel {
namespace {

constexpr uint64_t kFirstAgeNs = 8'000'000;
constexpr int kAges = 14;  // to 8 ms * 2^13 = 65 s, where the age feature ends

uint64_t ns(std::chrono::nanoseconds duration) {
  return static_cast<uint64_t>(duration.count());
}

// FNV-1a: stable over hosts and releases, as ids in a file should be.
class Hash {
 public:
  template <class Value>
  Hash& add(const Value& value) {
    unsigned char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    for (const unsigned char byte : bytes) state_ = (state_ ^ byte) * 0x100000001b3ULL;
    return *this;
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0xcbf29ce484222325ULL;
};

uint64_t connection_id(const bpf::event& event) {
  return Hash()
      .add(event.key.client.bytes)
      .add(event.key.client_port_be)
      .add(event.key.service_id)
      .add(event.syn_ns)
      .value();
}

// Whether the handshake's own waiting rows come with this event: each connection's first one that
// is not about a later request.
bool is_first_of_connection(const bpf::event& event) {
  if (event.type == bpf::EVENT_ANSWER) return event.request == 1;
  return event.request == 0 || (event.request == 1 && event.waited_ns > 0);
}

}  // namespace

bool Labeller::RequestKey::operator==(const RequestKey& other) const {
  return std::memcmp(client.bytes, other.client.bytes, sizeof client.bytes) == 0 &&
         port_be == other.port_be && service_id == other.service_id && request == other.request &&
         syn_ns == other.syn_ns;
}

size_t Labeller::RequestKeyHash::operator()(const RequestKey& key) const {
  return Hash()
      .add(key.client.bytes)
      .add(key.port_be)
      .add(key.service_id)
      .add(key.request)
      .add(key.syn_ns)
      .value();
}

Labeller::Labeller(LabellerOptions options, Sink sink)
    : options_(options), sink_(std::move(sink)) {}

void Labeller::on_tick(std::shared_ptr<const Snapshot> snapshot, uint64_t now_ns) {
  snapshots_.push_back(std::move(snapshot));
  // The oldest one kept is the one in force at the beginning of the history.
  while (snapshots_.size() > 1 && snapshots_[1]->time_ns + ns(options_.snapshot_history) < now_ns) {
    snapshots_.pop_front();
  }
  release(now_ns);
}

void Labeller::on_event(const bpf::event& event) {
  if (event.type == bpf::EVENT_RETRY) return on_retry(event);
  if (event.type == bpf::EVENT_NO_RETRY) return on_no_retry(event);
  if (event.type != bpf::EVENT_ANSWER && event.type != bpf::EVENT_END) return;

  Held& held = hold({event.key.client, event.key.client_port_be, event.key.service_id,
                     event.request, event.syn_ns},
                    event.time_ns);
  const bool in_handshake = event.type == bpf::EVENT_END && event.state == bpf::CONNECTION_SYN;
  if (!in_handshake && event.connect_ns > 0 && is_first_of_connection(event)) {
    add_waiting_rows(held, event, Point::kWaitingSyn, event.syn_ns, event.connect_ns);
  }
  if (event.waited_ns <= event.time_ns) {
    add_waiting_rows(held, event, in_handshake ? Point::kWaitingSyn : Point::kWaitingResponse,
                     event.time_ns - event.waited_ns, event.waited_ns);
  }
  if (is_outcome(event)) add_row(held, event, observe(event), event.time_ns);
  while (held_rows_ > options_.max_held_rows && !held_.empty()) drop_oldest();
}

void Labeller::finish(uint64_t now_ns) {
  release(now_ns);
  for (const Held& held : held_) counters_.dropped_unfinished += held.rows.size();
  held_.clear();
  by_key_.clear();
  held_rows_ = 0;
}

Labeller::Held& Labeller::hold(const RequestKey& key, uint64_t time_ns) {
  const auto [found, added] = by_key_.try_emplace(key);
  if (added) {
    held_.push_back({.key = key, .rows = {}});
    found->second = std::prev(held_.end());
  } else {
    held_.splice(held_.end(), held_, found->second);
  }
  Held& held = held_.back();
  // A retry that came this long before its failure's event is not about that event.
  if (held.rows.empty() && held.retry_ns != 0 && held.retry_ns + ns(options_.lateness) < time_ns) {
    held.retry_ns = 0;
    counters_.retries_unmatched++;
  }
  held.last_ns = std::max(held.last_ns, time_ns);
  return held;
}

void Labeller::on_retry(const bpf::event& event) {
  const RequestKey key{event.key.client, event.previous_port_be, event.key.service_id,
                       event.previous_request, event.previous_syn_ns};
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) {
    // Its failure's event may still be under way from another CPU's part of the ring buffer.
    note(hold(key, event.time_ns), event);
    while (held_.size() > options_.max_held_rows) drop_oldest();
    return;
  }
  Held& held = *found->second;
  if (event.time_ns > held.last_ns + ns(options_.retry_window)) {
    counters_.retries_unmatched++;
  } else {
    note(held, event);
  }
}

void Labeller::note(Held& held, const bpf::event& event) {
  held.retry_ns = event.time_ns;
  held.evidence = event.evidence;
  held.confidence = event.confidence;
}

// The rows may be gone already: then they were written with the label that the retry had.
void Labeller::on_no_retry(const bpf::event& event) {
  const auto found = by_key_.find({event.key.client, event.previous_port_be, event.key.service_id,
                                   event.previous_request, event.previous_syn_ns});
  if (found == by_key_.end() || found->second->retry_ns == 0) return;
  note(*found->second, event);
  found->second->retry_ns = 0;
  counters_.withdrawn++;
}

void Labeller::add_row(Held& held, const bpf::event& event, const Observation& observation,
                       uint64_t time_ns) {
  const Snapshot* const snapshot = snapshot_at(time_ns);
  if (snapshot == nullptr) {
    counters_.dropped_no_snapshot++;
    return;
  }
  LabelledRow row;
  row.time_ns = time_ns;
  row.service_id = observation.service_id;
  row.backend_id = observation.backend_id;
  row.client_hash = Hash().add(event.key.client.bytes).value();
  row.connection_id = connection_id(event);
  row.request = observation.point == Point::kWaitingSyn ? 0 : event.request;
  row.point = observation.point;
  row.elapsed_ns = observation.elapsed_ns;
  row.failure = observation.failure;
  row.status = observation.status;
  row.attempt = observation.attempt;
  row.features = compute(*snapshot, observation);
  held.rows.push_back(row);
  held_rows_++;
}

void Labeller::add_waiting_rows(Held& held, const bpf::event& event, Point point, uint64_t begin_ns,
                                uint64_t waited_ns) {
  // Nothing of the outcome goes in: live, only an age and a backend are known.
  Observation observation;
  observation.point = point;
  observation.backend_id = event.backend_id;
  observation.service_id = event.key.service_id;
  uint64_t age_ns = kFirstAgeNs;
  for (int k = 0; k < kAges && age_ns < waited_ns; k++, age_ns *= 2) {
    observation.elapsed_ns = age_ns;
    add_row(held, event, observation, begin_ns + age_ns);
  }
}

const Snapshot* Labeller::snapshot_at(uint64_t time_ns) const {
  // Strictly older: what happened at a snapshot's own time may be in it.
  const auto next =
      std::partition_point(snapshots_.begin(), snapshots_.end(),
                           [time_ns](const auto& snapshot) { return snapshot->time_ns < time_ns; });
  return next == snapshots_.begin() ? nullptr : std::prev(next)->get();
}

void Labeller::release(uint64_t now_ns) {
  const uint64_t hold_ns = ns(options_.retry_window) + ns(options_.lateness);
  while (!held_.empty() && held_.front().last_ns + hold_ns < now_ns) {
    Held& held = held_.front();
    if (held.rows.empty() && held.retry_ns != 0) counters_.retries_unmatched++;
    for (LabelledRow& row : held.rows) {
      row.retried = held.retry_ns != 0;
      row.evidence = held.evidence;
      row.confidence = held.confidence;
      counters_.written++;
      if (row.retried) counters_.retried++;
      sink_(row);
    }
    held_rows_ -= held.rows.size();
    by_key_.erase(held.key);
    held_.pop_front();
  }
}

void Labeller::drop_oldest() {
  counters_.dropped_full += held_.front().rows.size();
  held_rows_ -= held_.front().rows.size();
  by_key_.erase(held_.front().key);
  held_.pop_front();
}

}  // namespace petrel
