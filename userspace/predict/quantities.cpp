// SPDX-License-Identifier: MIT
#include "predict/quantities.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "bpf/fixed_point.h"

namespace petrel {
namespace {

constexpr double kNsPerMs = 1e6;

constexpr std::array<std::string_view, kPointCount> kPoints = {"waiting_syn", "waiting_response",
                                                               "answer", "end"};
constexpr std::array<std::string_view, bpf::FAILURE_KINDS> kFailures = {
    "none",      "refused", "handshake_timeout", "reset",
    "abandoned", "empty",   "overload",          "server_error"};
constexpr std::array<std::string_view, 9> kClosedBy = {"nobody",      "client_fin",  "client_rst",
                                                       "backend_fin", "backend_rst", "timeout",
                                                       "reuse",       "eviction",    "us"};
constexpr std::array<std::string_view, 11> kMethods = {"none",  "other",   "GET",    "HEAD",
                                                       "POST",  "PUT",     "DELETE", "OPTIONS",
                                                       "PATCH", "CONNECT", "TRACE"};

uint64_t ns(double ms) {
  return static_cast<uint64_t>(ms * kNsPerMs + 0.5);
}

int32_t q16(double value) {
  return static_cast<int32_t>(std::lround(value * Q16_ONE));
}

using Apply = void (*)(double value, Situation& situation);
using Probes = std::array<double, kProbes>;

struct Range {
  double least;
  double most;
};

Quantity word(std::string_view name, std::string_view doc, std::span<const std::string_view> words,
              Probes probes, Apply apply = nullptr) {
  Quantity result{.name = name, .unit = {}, .doc = doc, .probes = probes, .apply = apply};
  result.words = words;
  return result;
}

Quantity real(std::string_view name, std::string_view unit, std::string_view doc, Range range,
              Probes probes, Apply apply = nullptr, std::optional<double> assumed = {}) {
  Quantity result{.name = name, .unit = unit, .doc = doc, .probes = probes, .apply = apply};
  result.least = range.least;
  result.most = range.most;
  result.assumed = assumed;
  return result;
}

Quantity integer(std::string_view name, std::string_view unit, std::string_view doc, Range range,
                 Probes probes, Apply apply = nullptr) {
  Quantity result = real(name, unit, doc, range, probes, apply);
  result.whole = true;
  return result;
}

constexpr Range kMs = {0, 1e9};  // 11 days
constexpr Range kUsualMs = {1e-3, 1e9};
constexpr Range kBytes = {0, 1e15};
constexpr Range kRatio = {1e-6, 1e6};
constexpr Range kShare = {0, 1};

void elapsed(double v, Situation& it) {
  it.seen.elapsed_ns = ns(v);
}

// Of the first two the value may also follow from others (plan.hpp), so nothing is applied here.
// Others without a last part are no part of what features are computed of, yet.
// clang-format off
const Quantity kQuantities[] = {
    word("point", "moment it is seen at; left out: what the others say", kPoints, {0, 1, 2}),
    word("failure", "how it failed; 429 and 5xx are failures by themselves", kFailures, {0, 1, 7}),
    integer("status", "", "HTTP status of the answer", {100, 599}, {200, 404, 500},
            [](double v, Situation& it) { it.seen.status = static_cast<uint16_t>(v); }),
    real("response_time_ms", "ms", "request to first byte of its answer", kMs, {1, 300, 5000}, elapsed),
    real("waiting_ms", "ms", "how long the request has waited, or had when it ended, unanswered", kMs, {1, 300, 5000}, elapsed),
    real("syn_waiting_ms", "ms", "the same of its SYN", kMs, {1, 300, 5000}, elapsed),
    real("connect_time_ms", "ms", "SYN to SYN-ACK", kMs, {0.1, 30, 3000},
         [](double v, Situation& it) { it.seen.connect_ns = ns(v); }),
    integer("attempt", "count", "1: first; n: retry n-1", {1, 255}, {1, 2, 4},
            [](double v, Situation& it) { it.seen.attempt = static_cast<uint8_t>(v); }),
    integer("syn_repeats", "count", "SYNs beyond the first", {0, 255}, {0, 1, 3},
            [](double v, Situation& it) { it.seen.syn_repeats = static_cast<uint8_t>(v); }),
    word("closed_by", "who ended the connection, and how", kClosedBy, {0, 2, 4},
         [](double v, Situation& it) { it.seen.closed_by = static_cast<uint8_t>(v); }),
    word("method", "HTTP method", kMethods, {0, 2, 4}),
    real("bytes_sent", "bytes", "payload that the client sent", kBytes, {0, 1e3, 1e6}),
    real("bytes_received", "bytes", "payload that the client was sent", kBytes, {0, 1e3, 1e6}),
    real("anomaly_score", "", "how unusual the request is", {-1e6, 1e6}, {0, 1, 5}),
    real("usual_response_ms", "ms", "the service's usual response time", kUsualMs, {1, 30, 1000},
         [](double v, Situation& it) { it.service().usual_response_log2_q16 = bpf::log2_q16(ns(v)); }, 16),
    real("usual_connect_ms", "ms", "the service's usual connect time", kUsualMs, {0.1, 1, 100},
         [](double v, Situation& it) { it.service().usual_connect_log2_q16 = bpf::log2_q16(ns(v)); }, 1),
    real("backend_waiting_ratio", "ratio", "requests waiting at the backend, as times its usual number", kRatio, {0.5, 1, 8},
         [](double v, Situation& it) { it.backend().waiting_excess_q16 = q16(std::log2(v)); }),
    real("backend_silence_ms", "ms", "how long the backend has answered nothing of what waits", kMs, {0, 300, 5000},
         [](double v, Situation& it) { it.backend().silence_ns = ns(v); }),
    real("backend_failure_share", "share", "failures among the backend's recent outcomes", kShare, {0, 0.2, 0.9},
         [](double v, Situation& it) { it.backend().failure_share_q16 = q16(v); }),
    real("others_failure_share", "share", "the same of the service's other backends", kShare, {0, 0.1, 0.8},
         [](double v, Situation& it) { it.backend().others_failure_share_q16 = q16(v); }),
};
// clang-format on

static_assert(std::size(kQuantities) <= kMostQuantities);

}  // namespace

Situation::Situation() {
  reset();
}

void Situation::reset() {
  seen = {.backend_id = 1, .service_id = 1};
  snapshot.backends.assign(2, snapshot.unknown_backend);
  snapshot.services.assign(2, snapshot.unknown_service);
}

std::span<const Quantity> quantities() {
  return kQuantities;
}

std::optional<std::size_t> find_quantity(std::string_view name) {
  const auto found = std::find_if(std::begin(kQuantities), std::end(kQuantities),
                                  [name](const Quantity& each) { return each.name == name; });
  if (found == std::end(kQuantities)) return std::nullopt;
  return static_cast<std::size_t>(found - std::begin(kQuantities));
}

const DecidingQuantities& deciding() {
  static const DecidingQuantities kDeciding = {
      .point = *find_quantity("point"),
      .failure = *find_quantity("failure"),
      .status = *find_quantity("status"),
      .response_time_ms = *find_quantity("response_time_ms"),
      .waiting_ms = *find_quantity("waiting_ms"),
      .syn_waiting_ms = *find_quantity("syn_waiting_ms")};
  return kDeciding;
}

bool fits(const Quantity& quantity, double value) {
  // Written so that a NaN does not fit.
  return value >= quantity.least && value <= quantity.most &&
         (!quantity.whole || value == std::floor(value));
}

std::optional<double> read_quantity(const Quantity& quantity, std::string_view text) {
  if (!quantity.words.empty()) {
    const auto found = std::find(quantity.words.begin(), quantity.words.end(), text);
    if (found == quantity.words.end()) return std::nullopt;
    return static_cast<double>(found - quantity.words.begin());
  }
  double value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, code] = std::from_chars(text.data(), last, value);
  if (code != std::errc() || end != last || !fits(quantity, value)) return std::nullopt;
  return value;
}

std::string expected_of(const Quantity& quantity) {
  std::string text;
  if (!quantity.words.empty()) {
    for (const std::string_view word : quantity.words) {
      if (!text.empty()) text += word == quantity.words.back() ? " or " : ", ";
      text += word;
    }
    return text;
  }
  text = quantity.whole ? "an integer from " : "a number from ";
  text += number_text(quantity.least) + " to " + number_text(quantity.most);
  if (!quantity.unit.empty()) text += " (" + std::string(quantity.unit) + ")";
  return text;
}

std::string value_text(const Quantity& quantity, double value) {
  if (quantity.words.empty()) return number_text(value);
  return std::string(quantity.words[static_cast<std::size_t>(value)]);
}

std::string flag_of(const Quantity& quantity) {
  std::string flag = "--" + std::string(quantity.name);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

std::string number_text(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

}  // namespace petrel
