// SPDX-License-Identifier: MIT
// A capture's rows as what they were made of: the inverse of lines.hpp, for a replay.
//
// Each returns what is wrong with a field, with its place. A client is read back as it was masked.
#pragma once

#include <string>
#include <vector>

#include "base/error.hpp"
#include "capture/lines.hpp"
#include "capture/store.hpp"

namespace petrel {

struct StateRow {
  std::uint64_t tick = 0;
  std::string name;
  std::string value;
};

struct EventRow {
  std::uint64_t tick = 0;
  bpf::event event{};
};

struct TickBackendRow {
  std::uint64_t tick = 0;
  std::uint32_t service_id = 0;
  std::uint32_t backend_id = 0;
  ProbeResult probe = ProbeResult::kUnknown;
  std::vector<WaitingGroup> waiting_syn;
  std::vector<WaitingGroup> waiting;
  Decided decided;

  BackendTick inputs() const { return {probe, waiting_syn, waiting}; }
};

Result<void> read_row(const CaptureRows& from, StateRow& row);
Result<void> read_row(const CaptureRows& from, EventRow& row);
Result<void> read_row(const CaptureRows& from, TickFacts& row);
Result<void> read_row(const CaptureRows& from, TickBackendRow& row);

}  // namespace petrel
