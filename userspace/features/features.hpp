// SPDX-License-Identifier: MIT
// Features: what a model sees of one request at one moment.
//
// One function, compute_features() in bpf/features.h, serves training, the live agent and the kernel,
// in integers only: the same inputs give the same bits on every host. An Observation is what is known
// of the request itself; a Snapshot is what was known of its backend and service at the last tick
// *before* it. A feature is 0 where it does not apply, so that one model serves all points.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "bpf/features.h"

namespace petrel {

// enum decision_point, typed.
enum class Point : uint8_t {
  kWaitingSyn = bpf::POINT_WAITING_SYN,
  kWaitingResponse = bpf::POINT_WAITING_RESPONSE,
  kAnswer = bpf::POINT_ANSWER,
  kEnd = bpf::POINT_END,  // without an answer
};
inline constexpr size_t kPointCount = 4;
std::string_view point_name(Point point);  // "waiting_syn", "waiting_response", "answer", "end"

// As struct observation, with what names its place and its outcome.
struct Observation {
  Point point = Point::kEnd;
  uint8_t failure = bpf::FAILURE_NONE;        // enum failure_kind
  uint8_t closed_by = bpf::CLOSED_BY_NOBODY;  // enum closed_by
  uint8_t syn_repeats = 0;
  uint8_t attempt = 0;  // 1 = first; 0 = not known
  uint8_t method = bpf::METHOD_NONE;
  uint16_t status = 0;  // HTTP status; 0 = not seen
  uint16_t repeats = 0;
  uint16_t rtos = 0;
  uint32_t backend_id = 0;
  uint32_t service_id = 0;
  uint32_t request_bytes = 0;
  uint32_t srtt_us = 0;
  uint64_t elapsed_ns = 0;  // how long the SYN or request has waited, or waited
  uint64_t connect_ns = 0;  // SYN to SYN-ACK; 0 = none

  bpf::observation seen() const;
};

// Whether the event says how a request, or a SYN that was moved on, went at its backend: an answer, or
// an end that left it unanswered. Each request has one such event; the end of a connection whose last
// request was answered says nothing new.
bool is_outcome(const bpf::event& event);

// What an ANSWER or END event tells of its request. Not for RETRY events.
Observation observe(const bpf::event& event);

// enum feature, typed.
enum class Feature : size_t {
#define PETREL_FEATURE_CLASS(name, camel, text, unit, what) camel = bpf::FEATURE_##name,
  PETREL_FEATURES(PETREL_FEATURE_CLASS)
#undef PETREL_FEATURE_CLASS
};
inline constexpr size_t kFeatureCount = bpf::FEATURES;

using FeatureVector = std::array<int32_t, kFeatureCount>;  // Q16, in the order of enum Feature

struct FeatureInfo {
  std::string_view name;  // column of the CSV, key in a model file
  std::string_view unit;  // "flag", "log2", "share", "count", "score"
  std::string_view doc;
};
extern const std::array<FeatureInfo, kFeatureCount> kFeatures;

using BackendView = bpf::backend_view;
using ServiceView = bpf::service_view;

// All views as of one tick. In force for every observation later than time_ns, until the next.
struct Snapshot {
  Snapshot();

  // Ids never seen have the views of a backend in good health, of a service at its priors.
  const BackendView& backend(uint32_t backend_id) const;
  const ServiceView& service(uint32_t service_id) const;

  uint64_t time_ns = 0;               // nothing later than this went into the views
  uint32_t lost_share_q16 = 0;        // of late: not 0 when the views are built on a part of the events
  std::vector<BackendView> backends;  // by backend id
  std::vector<ServiceView> services;  // by service id
  BackendView unknown_backend{};
  ServiceView unknown_service{};
};

// The features of an observation made while the snapshot was in force.
FeatureVector compute(const Snapshot& snapshot, const Observation& observation);

}  // namespace petrel
