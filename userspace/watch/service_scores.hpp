// SPDX-License-Identifier: MIT
// ServiceScores: the live model's probabilities against what then happened, by service.
//
// Beside ModelWatch, which judges the model over all services: the same labelled rows over the same
// window, in 12 parts, 12 KB for each service that has rows. Pure: time comes in as a number.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>

#include "telemetry/row.hpp"
#include "watch/score_table.hpp"

namespace petrel {

class ServiceScores {
 public:
  static constexpr std::size_t kParts = 12;

  explicit ServiceScores(std::chrono::nanoseconds window) : part_(window / kParts) {}

  // Rows of one request come one after the other.
  void add(const LabelledRow& row, std::uint32_t probability_q16, std::uint64_t now_ns);
  WatchMeasures measure(std::uint32_t service_id, std::uint64_t now_ns) const;
  void clear() { services_.clear(); }

 private:
  struct Part {
    std::uint64_t number = 0;  // since the clock's zero, plus 1; 0: none yet
    ScoreTable table;
  };
  std::uint64_t part_number(std::uint64_t now_ns) const;

  std::chrono::nanoseconds part_;
  std::map<std::uint32_t, std::array<Part, kParts>> services_;
  std::uint64_t last_connection_ = 0;
  std::uint32_t last_request_ = 0;
};

}  // namespace petrel
