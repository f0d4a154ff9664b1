// SPDX-License-Identifier: MIT
#include "features/features.hpp"

#include "features/service_state.hpp"

namespace petrel {

const std::array<FeatureInfo, kFeatureCount> kFeatures = {{
#define PETREL_FEATURE_INFO(name, camel, text, unit, what) {text, unit, what},
    PETREL_FEATURES(PETREL_FEATURE_INFO)
#undef PETREL_FEATURE_INFO
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

bpf::observation Observation::seen() const {
  bpf::observation raw{};
  raw.elapsed_ns = elapsed_ns;
  raw.connect_ns = connect_ns;
  raw.request_bytes = request_bytes;
  raw.srtt_us = srtt_us;
  raw.repeats = repeats;
  raw.rtos = rtos;
  raw.point = static_cast<uint8_t>(point);
  raw.failure = failure;
  raw.syn_repeats = syn_repeats;
  raw.attempt = attempt;
  raw.method = method;
  return raw;
}

Observation observe(const bpf::event& event) {
  Observation seen;
  seen.point = event.type == bpf::EVENT_ANSWER ? Point::kAnswer : Point::kEnd;
  seen.failure = event.failure;
  seen.closed_by = event.closed_by;
  seen.syn_repeats = event.syn_repeats;
  seen.attempt = event.attempt;
  seen.method = event.method;
  seen.status = event.status;
  seen.repeats = event.repeats;
  seen.rtos = event.rtos;
  seen.backend_id = event.backend_id;
  seen.service_id = event.key.service_id;
  seen.request_bytes = event.request_bytes;
  seen.srtt_us = event.srtt_us;
  seen.elapsed_ns = event.waited_ns;
  seen.connect_ns = event.connect_ns;
  return seen;
}

Snapshot::Snapshot() : unknown_service(ServiceState().view()) {}

const BackendView& Snapshot::backend(uint32_t backend_id) const {
  return backend_id < backends.size() ? backends[backend_id] : unknown_backend;
}

const ServiceView& Snapshot::service(uint32_t service_id) const {
  return service_id < services.size() ? services[service_id] : unknown_service;
}

FeatureVector compute(const Snapshot& snapshot, const Observation& observation) {
  FeatureVector out;
  const bpf::observation seen = observation.seen();
  bpf::compute_features(&snapshot.service(observation.service_id),
                        &snapshot.backend(observation.backend_id), &seen, out.data());
  return out;
}

}  // namespace petrel
