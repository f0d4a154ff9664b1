// SPDX-License-Identifier: MIT
// Request: what is known of one request, in users' terms, and which moment of it that is.
#pragma once

#include <array>
#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/input_problem.hpp"
#include "predict/quantities.hpp"

namespace petrel {

struct Request {
  std::uint64_t given = 0;  // bit i: values[i], of quantities()[i], is known
  std::array<double, kMostQuantities> values{};
  std::uint64_t given_features = 0;  // bit i: features[i] is known, and no matter what follows
  FeatureVector features{};

  bool has(std::size_t quantity) const { return (given >> quantity & 1) != 0; }
  void set(std::size_t quantity, double value) {
    given |= std::uint64_t{1} << quantity;
    values[quantity] = value;
  }
  void set_feature(std::size_t feature, std::int32_t value_q16) {
    given_features |= std::uint64_t{1} << feature;
    features[feature] = value_q16;
  }
  void clear() { given = given_features = 0; }
};

static_assert(kFeatureCount <= 64);

std::optional<std::size_t> find_feature(std::string_view name);

// A feature's value in its own unit ("2.5"), as Q16; none: it does not fit.
std::optional<std::int32_t> read_feature(std::string_view text);
std::optional<std::int32_t> feature_q16(double value);
inline constexpr std::string_view kFeatureExpected = "a number from -32767 to 32767";

// {"response_time_ms": 750, "status": 500, "features": {"backend_silence": 1.5}}: null is not
// given. Any other member is an error.
void read_request(const boost::json::value& document, Request& request,
                  std::optional<InputProblem>& error);

// The moment at which features are computed; none: what is given does not tell.
struct Moment {
  std::optional<Point> point;
  std::optional<std::uint8_t> failure;
  bool assumed_good = false;  // an answer of which neither status nor failure is known

  bool operator==(const Moment&) const = default;
};

// A problem where what is given contradicts itself; its field is a quantity's name.
std::optional<InputProblem> find_moment(const Request& request, Moment& moment);

}  // namespace petrel
