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
constexpr Range kBytesSent = {0, 4294967295};
constexpr Range kScore = {-1000, 1000};
constexpr double kLargestOdds = 8;  // as ServiceState's
constexpr std::array<std::string_view, 2> kNoYes = {"no", "yes"};

double log2_odds(double share) {
  return share <= 0   ? -kLargestOdds
         : share >= 1 ? kLargestOdds
                      : std::clamp(std::log2(share / (1 - share)), -kLargestOdds, kLargestOdds);
}

Quantity overriding(Quantity quantity) {
  quantity.overrides = true;
  return quantity;
}

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
    word("method", "HTTP method", kMethods, {0, 2, 4},
         [](double v, Situation& it) { it.seen.method = static_cast<uint8_t>(v); }),
    real("bytes_sent", "bytes", "payload that the client sent", kBytesSent, {0, 1e4, 1e6},
         [](double v, Situation& it) { it.seen.request_bytes = static_cast<uint32_t>(v); }),
    real("bytes_received", "bytes", "payload that the client was sent", kBytes, {0, 1e3, 1e6}),
    overriding(real("anomaly_score", "", "robust z-score of its time, instead of what the usual times say", kScore, {0, 1, 5},
         [](double v, Situation& it) { it.anomaly_q16 = q16(v); })),
    real("rarity", "", "one of so many of the service's good answers takes as long", {1, 1e6}, {1, 8, 500},
         [](double v, Situation& it) { it.rarity_q16 = q16(std::log2(v)); }),
    integer("segment_repeats", "count", "data segments of the connection that came again", {0, 65535}, {0, 1, 9},
            [](double v, Situation& it) { it.seen.repeats = static_cast<uint16_t>(v); }),
    integer("rtos", "count", "retransmission timeouts of its sockets", {0, 65535}, {0, 1, 9},
            [](double v, Situation& it) { it.seen.rtos = static_cast<uint16_t>(v); }),
    real("srtt_ms", "ms", "smoothed RTT of its sockets", {1e-3, 4e6}, {0.1, 10, 500},
         [](double v, Situation& it) { it.seen.srtt_us = static_cast<uint32_t>(v * 1000 + 0.5); }),
    real("usual_srtt_ms", "ms", "the service's usual smoothed RTT", {2e-3, 4e6}, {0.1, 10, 500},
         [](double v, Situation& it) { it.service().usual_srtt_log2_q16 = bpf::log2_q16(static_cast<uint64_t>(v * 1000 + 0.5)); }),
    real("usual_response_ms", "ms", "the service's usual response time", kUsualMs, {1, 30, 1000},
         [](double v, Situation& it) { it.service().usual_response_log2_q16 = bpf::log2_q16(ns(v)); }, 16),
    real("usual_connect_ms", "ms", "the service's usual connect time", kUsualMs, {0.1, 1, 100},
         [](double v, Situation& it) { it.service().usual_connect_log2_q16 = bpf::log2_q16(ns(v)); }, 1),
    real("usual_spread", "ratio", "times that a response time is usually off that, either way", {1, 1e3}, {1.2, 2, 8},
         [](double v, Situation& it) { it.service().response_spread_q16 = q16(std::log2(v)); }, M_SQRT2),
    overriding(real("backend_usual_response_ms", "ms", "its backend's own usual response time, instead of the service's", kUsualMs, {1, 30, 1000},
         [](double v, Situation& it) { it.backend().usual_response_log2_q16 = bpf::log2_q16(ns(v)); })),
    real("patience_ms", "ms", "after which the service's clients usually leave", kUsualMs, {100, 1000, 10000},
         [](double v, Situation& it) { it.service().patience_log2_q16 = bpf::log2_q16(ns(v)); }, 1000),
    real("retry_share", "share", "of the service's recent failures: tried again by their clients", kShare, {0.1, 0.6, 0.95},
         [](double v, Situation& it) { it.service().retry_odds_log2_q16 = q16(log2_odds(v)); }, 0.75),
    real("hour", "h", "time of day, UTC", {0, 24}, {1, 9, 16},
         [](double v, Situation& it) {
           it.service().day_sine_q16 = q16(std::sin(v * M_PI / 12));
           it.service().day_cosine_q16 = q16(std::cos(v * M_PI / 12));
         }),
    real("backend_waiting_ratio", "ratio", "requests waiting at the backend, as times its usual number", kRatio, {0.5, 1, 8},
         [](double v, Situation& it) { it.backend().waiting_excess_q16 = q16(std::log2(v)); }),
    real("backend_silence_ms", "ms", "how long the backend has answered nothing of what waits", kMs, {0, 300, 5000},
         [](double v, Situation& it) { it.backend().silence_ns = ns(v); }),
    real("backend_failure_share", "share", "failures among the backend's recent outcomes", kShare, {0, 0.2, 0.9},
         [](double v, Situation& it) { it.backend().failure_share_q16 = q16(v); }),
    real("others_failure_share", "share", "the same of the service's other backends", kShare, {0, 0.1, 0.8},
         [](double v, Situation& it) { it.backend().others_failure_share_q16 = q16(v); }),
    real("backend_connect_failure_share", "share", "of the backend's recent outcomes: refused, or SYN unanswered", kShare, {0, 0.2, 0.9},
         [](double v, Situation& it) { it.backend().connect_failure_share_q16 = q16(v); }),
    real("backend_reset_share", "share", "of these: reset, or closed without an answer", kShare, {0, 0.2, 0.9},
         [](double v, Situation& it) { it.backend().reset_share_q16 = q16(v); }),
    real("backend_error_share", "share", "of these: HTTP 5xx or 429", kShare, {0, 0.2, 0.9},
         [](double v, Situation& it) { it.backend().error_share_q16 = q16(v); }),
    real("trouble_share", "share", "the backend's part of the service's recent failures", kShare, {0, 0.3, 0.9},
         [](double v, Situation& it) { it.backend().trouble_share_q16 = q16(v); }),
    word("other_zone", "whether its backend is in another zone than the balancer", kNoYes, {0, 1, 1},
         [](double v, Situation& it) { it.backend().other_zone = v != 0 ? 1 : 0; }),
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
  anomaly_q16.reset();
  rarity_q16.reset();
}

FeatureVector Situation::features() const {
  FeatureVector out = compute(snapshot, seen);
  const bool answer = seen.point == Point::kAnswer;
  const bool waits = seen.point == Point::kWaitingResponse;
  if (anomaly_q16 && (answer || waits)) {
    out[bpf::FEATURE_ANOMALY_SCORE] = std::clamp(
        *anomaly_q16, (waits ? 0 : ANOMALY_LEAST) * Q16_ONE, ANOMALY_MOST * Q16_ONE);
  }
  if (rarity_q16 && (waits || (answer && seen.failure == bpf::FAILURE_NONE))) {
    out[bpf::FEATURE_RARITY] = std::clamp(*rarity_q16, 0, RATIO_OCTAVES * Q16_ONE);
  }
  return out;
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
