// SPDX-License-Identifier: MIT
// LabelledRow: one decision point of one request, and whether the request was retried afterwards.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "features/features.hpp"

namespace petrel {

struct LabelledRow {
  uint64_t time_ns = 0;  // of the decision point, CLOCK_MONOTONIC
  uint32_t service_id = 0;
  uint32_t backend_id = 0;
  uint64_t client_hash = 0;    // tells clients apart; not their address
  uint64_t connection_id = 0;  // hash of the connection's key and first SYN
  uint32_t request = 0;        // of the connection, from 1; 0 = its handshake
  Point point = Point::kEnd;
  uint64_t elapsed_ns = 0;
  uint8_t failure = 0;  // enum failure_kind
  uint16_t status = 0;
  uint8_t attempt = 0;  // 0 = not known
  FeatureVector features{};
  bool retried = false;  // the label
  uint8_t evidence = 0;      // enum label_evidence: of the retry, or of what was none after all
  uint8_t confidence = 255;  // in the label: 255 is certain

  bool operator==(const LabelledRow&) const = default;
};

// Rows captured together. Training never splits a run: its rows share their weather.
struct Run {
  std::string name;
  std::vector<LabelledRow> rows;
};

}  // namespace petrel
