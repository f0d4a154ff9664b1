// SPDX-License-Identifier: MIT
// Quantities: what users know of a request, each by name and unit, and where it goes in what the
// agent computes features of.
//
// One table: a line makes a flag of `petrel predict`, a member of its JSON and a column of its CSV.
// Which features of a model a quantity reaches is found by trying (plan.hpp), so a line says
// nothing of features.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "features/features.hpp"

namespace petrel {

// What features are computed of: one request at backend 1 of service 1.
struct Situation {
  Situation();
  void reset();  // nothing known; keeps its memory
  BackendView& backend() { return snapshot.backends[1]; }
  ServiceView& service() { return snapshot.services[1]; }
  FeatureVector features() const;

  Observation seen;
  Snapshot snapshot;
  // Where the moment has such a feature: instead of what would come of the times; and what comes of
  // a histogram that users do not have.
  std::optional<int32_t> anomaly_q16;
  std::optional<int32_t> rarity_q16;
};

inline constexpr std::size_t kProbes = 3;

struct Quantity {
  std::string_view name;  // column and JSON member; the flag has '-' for '_'
  std::string_view unit;
  std::string_view doc;
  double least = 0;
  double most = 0;
  bool whole = false;  // integers only
  // Values far apart, to find what it reaches. Of words: their numbers.
  std::array<double, kProbes> probes{};
  // Null: no part of a request's features is computed of it yet.
  void (*apply)(double value, Situation& situation) = nullptr;
  std::span<const std::string_view> words = {};  // instead of numbers; the value is the index
  // In force where it is not given; features that hang on others not given take the training
  // median.
  std::optional<double> assumed = {};
  // Takes the place of what else would be computed: where it is not given, nothing is missing.
  bool overrides = false;
};

std::span<const Quantity> quantities();
inline constexpr std::size_t kMostQuantities = 48;  // fit a mask, with a moment beside them

// Its index; none: there is no such quantity.
std::optional<std::size_t> find_quantity(std::string_view name);

// These decide which moment of which request it is. All others are independent of each other.
struct DecidingQuantities {
  std::size_t point, failure, status, response_time_ms, waiting_ms, syn_waiting_ms;
};
const DecidingQuantities& deciding();

// The value of a field; none: it does not fit.
std::optional<double> read_quantity(const Quantity& quantity, std::string_view text);
bool fits(const Quantity& quantity, double value);
std::string expected_of(const Quantity& quantity);               // "a number from 0 to 1e+09 (ms)"
std::string value_text(const Quantity& quantity, double value);  // "750", "refused"
std::string flag_of(const Quantity& quantity);                   // "--response-time-ms"

// Shortest text that reads back as the value.
std::string number_text(double value);

}  // namespace petrel
