// SPDX-License-Identifier: MIT
#include "predict/request.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>
#include <string>

#include "bpf/fixed_point.h"

namespace petrel {
namespace {

namespace json = boost::json;

constexpr double kLargestFeature = 32767;
constexpr int kOverloadStatus = 429;
constexpr int kFirstServerError = 500;

std::uint8_t failure_of_status(double status) {
  if (status == kOverloadStatus) return bpf::FAILURE_OVERLOAD;
  return status >= kFirstServerError ? bpf::FAILURE_SERVER_ERROR : bpf::FAILURE_NONE;
}

bool is_answer(std::uint8_t failure) {
  return failure == bpf::FAILURE_OVERLOAD || failure == bpf::FAILURE_SERVER_ERROR;
}

std::string quote(const json::value& value) {
  return json::serialize(value).substr(0, 60);
}

std::optional<double> number_of(const json::value& value) {
  if (value.is_double()) return value.get_double();
  if (value.is_int64()) return static_cast<double>(value.get_int64());
  if (value.is_uint64()) return static_cast<double>(value.get_uint64());
  return std::nullopt;
}

void read_member(const Quantity& quantity, std::size_t index, const json::value& value,
                 Request& request, std::optional<InputProblem>& error) {
  std::optional<double> read;
  if (quantity.words.empty()) {
    read = number_of(value);
    if (read && !fits(quantity, *read)) read.reset();
  } else if (const json::string* const text = value.if_string()) {
    read = read_quantity(quantity, {text->data(), text->size()});
  }
  if (read) return request.set(index, *read);
  if (!error) error = InputProblem{std::string(quantity.name), expected_of(quantity), quote(value)};
}

void read_features(const json::value& value, Request& request, std::optional<InputProblem>& error) {
  const json::object* const object = value.if_object();
  if (object == nullptr) {
    error = InputProblem{"features", "an object", quote(value)};
    return;
  }
  for (const auto& member : *object) {
    const std::string_view name(member.key().data(), member.key().size());
    const auto feature = find_feature(name);
    const auto number = number_of(member.value());
    const auto q16 = number ? feature_q16(*number) : std::nullopt;
    if (feature && q16) {
      request.set_feature(*feature, *q16);
      continue;
    }
    error = InputProblem{"features." + std::string(name),
                         std::string(feature ? kFeatureExpected : "a feature of the model"),
                         quote(member.value())};
    return;
  }
}

// What waits has neither an answer nor a status.
std::optional<InputProblem> contradiction(const Request& request, std::optional<uint8_t> failure) {
  const DecidingQuantities& is = deciding();
  const auto beside = [&](std::size_t found, std::string_view other) {
    const Quantity& quantity = quantities()[found];
    return InputProblem{std::string(quantity.name), "nothing beside " + std::string(other),
                        value_text(quantity, request.values[found])};
  };
  const bool syn = request.has(is.syn_waiting_ms);
  if (!syn && !request.has(is.waiting_ms)) return std::nullopt;
  if (syn && request.has(is.waiting_ms)) return beside(is.syn_waiting_ms, "waiting_ms");
  const std::string_view waiting = syn ? "syn_waiting_ms" : "waiting_ms";
  if (request.has(is.response_time_ms)) return beside(is.response_time_ms, waiting);
  if (request.has(is.status)) return beside(is.status, waiting);
  if (failure && is_answer(*failure)) return beside(is.failure, waiting);
  return std::nullopt;
}

}  // namespace

std::optional<std::size_t> find_feature(std::string_view name) {
  const auto found = std::find_if(kFeatures.begin(), kFeatures.end(),
                                  [name](const FeatureInfo& each) { return each.name == name; });
  if (found == kFeatures.end()) return std::nullopt;
  return static_cast<std::size_t>(found - kFeatures.begin());
}

std::optional<std::int32_t> feature_q16(double value) {
  // Written so that a NaN does not fit.
  if (!(std::abs(value) <= kLargestFeature)) return std::nullopt;
  return static_cast<std::int32_t>(std::lround(value * Q16_ONE));
}

std::optional<std::int32_t> read_feature(std::string_view text) {
  double value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, code] = std::from_chars(text.data(), last, value);
  if (code != std::errc() || end != last) return std::nullopt;
  return feature_q16(value);
}

void read_request(const json::value& document, Request& request,
                  std::optional<InputProblem>& error) {
  request.clear();
  const json::object* const object = document.if_object();
  if (object == nullptr) {
    error = InputProblem{"", "an object", quote(document)};
    return;
  }
  for (const auto& member : *object) {
    const std::string_view name(member.key().data(), member.key().size());
    if (name == "features") {
      read_features(member.value(), request, error);
    } else if (const auto index = find_quantity(name)) {
      if (!member.value().is_null()) {
        read_member(quantities()[*index], *index, member.value(), request, error);
      }
    } else {
      error = InputProblem{std::string(name), "a name that `petrel predict --help` lists",
                           quote(member.value())};
    }
    if (error) return;
  }
}

std::optional<InputProblem> find_moment(const Request& request, Moment& moment) {
  const DecidingQuantities& is = deciding();
  const bool waits = request.has(is.waiting_ms) || request.has(is.syn_waiting_ms);
  std::optional<std::uint8_t> failure;
  if (request.has(is.failure)) {
    failure = static_cast<std::uint8_t>(request.values[is.failure]);
  } else if (request.has(is.status)) {
    failure = failure_of_status(request.values[is.status]);
  }
  if (waits) {
    if (auto problem = contradiction(request, failure)) return problem;
  }
  moment = {.point = std::nullopt, .failure = failure};
  const bool ended = failure && *failure != bpf::FAILURE_NONE && !is_answer(*failure);
  if (request.has(is.point)) {
    moment.point = static_cast<Point>(request.values[is.point]);
  } else if (ended) {
    moment.point = Point::kEnd;
  } else if (waits) {
    moment.point = request.has(is.syn_waiting_ms) ? Point::kWaitingSyn : Point::kWaitingResponse;
  } else if (failure || request.has(is.response_time_ms)) {
    moment.point = Point::kAnswer;
  }
  // As the sensors have it: what is no HTTP is answered well when it is answered.
  if (!failure && moment.point && *moment.point != Point::kEnd) {
    moment.failure = bpf::FAILURE_NONE;
    moment.assumed_good = *moment.point == Point::kAnswer;
  }
  return std::nullopt;
}

}  // namespace petrel
