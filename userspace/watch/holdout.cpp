// SPDX-License-Identifier: MIT
#include "watch/holdout.hpp"

#include <algorithm>
#include <cmath>

namespace petrel {
namespace {

constexpr std::size_t kLeastParts = 5;  // with requests of both: fewer seconds say nothing of others

struct Bounds {
  double low = 0;
  double high = 0;
};

// Wilson's score interval of a proportion.
Bounds wilson(double retried, double requests, double z) {
  const double rate = retried / requests;
  const double denominator = 1 + z * z / requests;
  const double middle = (rate + z * z / (2 * requests)) / denominator;
  const double half =
      z * std::sqrt(rate * (1 - rate) / requests + z * z / (4 * requests * requests)) / denominator;
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

// A retry is known after its request has been counted, in another part perhaps.
double capped(std::uint64_t retried, std::uint64_t requests) {
  return static_cast<double>(std::min(retried, requests));
}

}  // namespace

std::uint64_t Holdout::part_number(std::uint64_t now_ns) const {
  return now_ns / (settings_.window_ns / kParts) + 1;
}

Holdout::Group& Holdout::at(bool in_holdout, std::uint64_t now_ns) {
  const std::uint64_t number = part_number(now_ns);
  Part& part = parts_[number % kParts];
  if (part.number != number) part = {.number = number};
  return part.groups[in_holdout ? 1 : 0];
}

void Holdout::add_request(bool in_holdout, std::uint64_t now_ns) { ++at(in_holdout, now_ns).requests; }

void Holdout::add_retry(bool in_holdout, std::uint64_t now_ns) { ++at(in_holdout, now_ns).retried; }

void Holdout::take_back_retry(bool in_holdout, std::uint64_t now_ns) {
  Group& group = at(in_holdout, now_ns);
  if (group.retried > 0) --group.retried;
}

HoldoutMeasures Holdout::measure(std::uint64_t now_ns) const {
  const std::uint64_t newest = part_number(now_ns);
  const auto is_in = [&](const Part& part) {
    return part.number != 0 && part.number <= newest && newest - part.number < kParts;
  };
  HoldoutMeasures out;
  std::size_t parts = 0;
  for (const Part& part : parts_) {
    if (!is_in(part)) continue;
    out.rest += part.groups[0].requests;
    out.rest_retried += part.groups[0].retried;
    out.holdout += part.groups[1].requests;
    out.holdout_retried += part.groups[1].retried;
    if (part.groups[0].requests > 0 && part.groups[1].requests > 0) ++parts;
  }
  if (out.holdout < settings_.least_holdout || out.rest < settings_.least_holdout ||
      parts < kLeastParts) {
    return out;
  }
  out.known = true;
  const double rest = static_cast<double>(out.rest), holdout = static_cast<double>(out.holdout);
  const double rest_retried = capped(out.rest_retried, out.rest);
  const double holdout_retried = capped(out.holdout_retried, out.holdout);
  const double rest_rate = rest_retried / rest, holdout_rate = holdout_retried / holdout;
  out.difference = rest_rate - holdout_rate;

  const Bounds of_rest = wilson(rest_retried, rest, settings_.z);
  const Bounds of_holdout = wilson(holdout_retried, holdout, settings_.z);
  const double below = std::hypot(rest_rate - of_rest.low, of_holdout.high - holdout_rate);
  const double above = std::hypot(of_rest.high - rest_rate, holdout_rate - of_holdout.low);
  // What each part adds to the difference of two ratios; parts are drawn together, not requests.
  double squares = 0, count = 0;
  for (const Part& part : parts_) {
    if (!is_in(part)) continue;
    const auto off = [](const Group& group, double rate) {
      return static_cast<double>(group.retried) - rate * static_cast<double>(group.requests);
    };
    const double push = off(part.groups[0], rest_rate) / rest - off(part.groups[1], holdout_rate) / holdout;
    squares += push * push;
    ++count;
  }
  const double spread = settings_.z * std::sqrt(squares * count / (count - 1));
  out.low = out.difference - std::max(below, spread);
  out.high = out.difference + std::max(above, spread);
  return out;
}

bool Holdout::judge(std::uint64_t now_ns) {
  if (is_harmed()) {
    if (now_ns < harmed_until_ns_) return false;
    release();
    return true;
  }
  const HoldoutMeasures measures = measure(now_ns);
  if (!measures.known || measures.low <= settings_.least_harm) return false;
  evidence_ = measures;
  ++harms_;
  rest_ns_ = rest_ns_ == 0 ? settings_.first_rest_ns
                           : std::min(2 * rest_ns_, settings_.longest_rest_ns);
  harmed_until_ns_ = now_ns + rest_ns_;
  return true;
}

void Holdout::resume(std::uint64_t harms, std::uint64_t rest_ns, std::uint64_t until_ns) {
  harms_ = harms;
  rest_ns_ = std::min(rest_ns, settings_.longest_rest_ns);
  harmed_until_ns_ = until_ns;
}

void Holdout::release() {
  harmed_until_ns_ = 0;
  evidence_ = {};
  parts_ = {};
}

}  // namespace petrel
