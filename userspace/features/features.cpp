// SPDX-License-Identifier: MIT
#include "features/features.hpp"

#include <algorithm>

#include "bpf/fixed_point.h"

namespace petrel {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;
constexpr int32_t kOneQ16 = Q16_ONE;
// Ranges in octaves. 16 octaves of milliseconds are 65 s; live ages end near 9 s.
constexpr int32_t kAgeOctaves = 16;
constexpr int32_t kRatioOctaves = 10;
constexpr int32_t kLargestSynRepeats = 7;

// Priors until a service's own times are known: a LAN handshake and a quick page.
constexpr uint64_t kPriorConnectNs = 1 * kNsPerMs;
constexpr uint64_t kPriorResponseNs = 16 * kNsPerMs;

// log2 of an age in milliseconds; 0 up to 1 ms.
int32_t age_q16(uint64_t age_ns) {
  const int32_t age = bpf::log2_q16(age_ns) - bpf::log2_q16(kNsPerMs);
  return std::clamp(age, 0, kAgeOctaves * kOneQ16);
}

// log2 of how many times the usual time an age is; 0 up to the usual time.
int32_t beyond_usual_q16(uint64_t age_ns, int32_t usual_log2_q16) {
  return std::clamp(bpf::log2_q16(age_ns) - usual_log2_q16, 0, kRatioOctaves * kOneQ16);
}

// Writes features by name and keeps the rest 0.
class Writer {
 public:
  void set(Feature feature, int32_t value_q16) {
    vector_[static_cast<size_t>(feature)] = value_q16;
  }
  void flag(Feature feature, bool on) { set(feature, on ? kOneQ16 : 0); }
  const FeatureVector& vector() const { return vector_; }

 private:
  FeatureVector vector_{};
};

// While a request waits its fate depends on where it waits. Once its outcome is known the
// backend's state adds nothing, and one coefficient for both would blur both: so only here.
void write_waiting(Writer& out, const Snapshot& snapshot, const Observation& seen) {
  const bool syn = seen.point == Point::kWaitingSyn;
  const ServiceView& service = snapshot.service(seen.service_id);
  const BackendView& backend = snapshot.backend(seen.backend_id);

  out.flag(Feature::kWaitingSyn, syn);
  out.flag(Feature::kWaitingResponse, !syn);
  out.set(Feature::kWaitingAge, age_q16(seen.elapsed_ns));
  out.set(Feature::kWaitingBeyondUsual,
          beyond_usual_q16(seen.elapsed_ns,
                           syn ? service.usual_connect_log2_q16 : service.usual_response_log2_q16));
  out.set(Feature::kBackendWaiting, std::clamp(backend.waiting_excess_q16, -kRatioOctaves * kOneQ16,
                                               kRatioOctaves * kOneQ16));
  out.set(Feature::kBackendSilence,
          beyond_usual_q16(backend.silence_ns, service.usual_response_log2_q16));
  out.set(Feature::kBackendFailures, backend.failure_share_q16);
  // Not below 0: where others fail more, a difference would let a model learn that trouble all
  // around makes a backend safe, and a failure of the whole service would look harmless.
  out.set(Feature::kBackendFailuresExcess,
          std::max(0, backend.failure_share_q16 - backend.others_failure_share_q16));
}

void write_outcome(Writer& out, const Snapshot& snapshot, const Observation& seen) {
  const bool answered = seen.point == Point::kAnswer && seen.failure == bpf::FAILURE_NONE;

  out.flag(Feature::kAnswered, answered);
  if (answered) {
    const int32_t usual = snapshot.service(seen.service_id).usual_response_log2_q16;
    out.set(Feature::kAnswerBeyondUsual, beyond_usual_q16(seen.elapsed_ns, usual));
  }
  out.set(Feature::kSynRepeats, std::min<int32_t>(seen.syn_repeats, kLargestSynRepeats) * kOneQ16);
  out.flag(Feature::kRefused, seen.failure == bpf::FAILURE_REFUSED);
  out.flag(Feature::kHandshakeTimeout, seen.failure == bpf::FAILURE_HANDSHAKE_TIMEOUT);
  out.flag(Feature::kReset, seen.failure == bpf::FAILURE_RESET);
  out.flag(Feature::kAbandoned, seen.failure == bpf::FAILURE_ABANDONED);
  // A client that leaves at once was told to; one that leaves late lost its patience.
  if (seen.failure == bpf::FAILURE_ABANDONED) {
    out.set(Feature::kAbandonedAge, age_q16(seen.elapsed_ns));
  }
  out.flag(Feature::kEmpty, seen.failure == bpf::FAILURE_EMPTY);
  out.flag(Feature::kServerError, seen.failure == bpf::FAILURE_SERVER_ERROR);
  out.flag(Feature::kOverload, seen.failure == bpf::FAILURE_OVERLOAD);
  out.flag(Feature::kRepeatedAttempt, seen.attempt > 1 && seen.failure != bpf::FAILURE_NONE);
}

}  // namespace

const std::array<FeatureInfo, kFeatureCount> kFeatures = {{
    {"waiting_syn", "flag", "its SYN waits for an answer"},
    {"waiting_response", "flag", "its request waits for an answer"},
    {"waiting_age", "log2", "milliseconds it has waited, from 1 ms"},
    {"waiting_beyond_usual", "log2",
     "times the service's usual connect or response time that it has waited, from 1"},
    {"answered", "flag", "answered well"},
    {"answer_beyond_usual", "log2",
     "times the service's usual response time that a good answer took, from 1"},
    {"syn_repeats", "count", "SYNs sent again before the connection was answered or ended"},
    {"refused", "flag", "the SYN was answered by RST"},
    {"handshake_timeout", "flag", "the SYN was never answered"},
    {"reset", "flag", "the backend reset the established connection"},
    {"abandoned", "flag", "the client left with its request unanswered"},
    {"abandoned_age", "log2", "milliseconds after which the client left, from 1 ms"},
    {"empty", "flag", "the backend closed with the request unanswered"},
    {"server_error", "flag", "answered with HTTP 5xx"},
    {"overload", "flag", "answered with HTTP 429"},
    {"repeated_attempt", "flag", "the request that failed was a retry itself"},
    {"backend_waiting", "log2",
     "while waiting: requests waiting at the backend, as times its usual number"},
    {"backend_silence", "log2",
     "while waiting: times the usual response time that the backend has answered nothing, from 1"},
    {"backend_failures", "share",
     "while waiting: share of the backend's recent outcomes that failed"},
    {"backend_failures_excess", "share",
     "while waiting: the same less that of the service's other backends, from 0"},
}};

std::string_view point_name(Point point) {
  switch (point) {
    case Point::kWaitingSyn:
      return "waiting_syn";
    case Point::kWaitingResponse:
      return "waiting_response";
    case Point::kAnswer:
      return "answer";
    case Point::kEnd:
      return "end";
  }
  return "unknown";
}

bool is_outcome(const bpf::event& event) {
  if (event.type == bpf::EVENT_ANSWER) return true;
  const bool ended = event.type == bpf::EVENT_END || event.type == bpf::EVENT_MOVED;
  return ended && event.failure != bpf::FAILURE_NONE &&
         event.failure != bpf::FAILURE_OVERLOAD && event.failure != bpf::FAILURE_SERVER_ERROR;
}

Observation observe(const bpf::event& event) {
  Observation seen;
  seen.point = event.type == bpf::EVENT_ANSWER ? Point::kAnswer : Point::kEnd;
  seen.failure = event.failure;
  seen.closed_by = event.closed_by;
  seen.syn_repeats = event.syn_repeats;
  seen.attempt = event.attempt;
  seen.status = event.status;
  seen.backend_id = event.backend_id;
  seen.service_id = event.key.service_id;
  seen.elapsed_ns = event.waited_ns;
  seen.connect_ns = event.connect_ns;
  return seen;
}

Snapshot::Snapshot()
    : unknown_service{.usual_response_log2_q16 = bpf::log2_q16(kPriorResponseNs),
                      .usual_connect_log2_q16 = bpf::log2_q16(kPriorConnectNs)} {}

const BackendView& Snapshot::backend(uint32_t backend_id) const {
  return backend_id < backends.size() ? backends[backend_id] : unknown_backend;
}

const ServiceView& Snapshot::service(uint32_t service_id) const {
  return service_id < services.size() ? services[service_id] : unknown_service;
}

FeatureVector compute(const Snapshot& snapshot, const Observation& observation) {
  Writer out;
  if (observation.point == Point::kWaitingSyn || observation.point == Point::kWaitingResponse) {
    write_waiting(out, snapshot, observation);
  } else {
    write_outcome(out, snapshot, observation);
  }
  return out.vector();
}

}  // namespace petrel
