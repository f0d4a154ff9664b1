// SPDX-License-Identifier: MIT
#include "traffic/summary.hpp"

#include <algorithm>
#include <boost/json/value.hpp>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace petrel::traffic {

namespace json = boost::json;

namespace {

json::value number_or_null(std::optional<std::int64_t> value) {
  return value ? json::value(*value) : json::value(nullptr);
}

json::value ms_or_null(std::optional<std::int64_t> value_us) {
  return value_us ? json::value(static_cast<double>(*value_us) / 1000) : json::value(nullptr);
}

json::object counts(const std::map<std::string, std::uint64_t>& by_name) {
  json::object object;
  for (const auto& [name, count] : by_name) object[name] = count;
  return object;
}

std::string ms_text(std::optional<std::int64_t> value_us) {
  if (!value_us) return "-";
  std::ostringstream out;
  out << std::fixed << std::setprecision(2) << static_cast<double>(*value_us) / 1000 << " ms";
  return out.str();
}

std::string counts_text(const std::map<std::string, std::uint64_t>& by_name) {
  std::string text;
  for (const auto& [name, count] : by_name) {
    text += (text.empty() ? "" : ", ") + name + " " + std::to_string(count);
  }
  return text.empty() ? "-" : text;
}

}  // namespace

std::optional<std::int64_t> percentile(std::vector<std::int64_t>& values, double share) {
  if (values.empty()) return std::nullopt;
  // The least value reaching the share; the small slack undoes 0.999 * 1000 = 999.0000000001.
  const double rank = std::ceil(share * static_cast<double>(values.size()) - 1e-9);
  const auto index = std::clamp<std::int64_t>(static_cast<std::int64_t>(rank) - 1, 0,
                                              static_cast<std::int64_t>(values.size()) - 1);
  std::nth_element(values.begin(), values.begin() + index, values.end());
  return values[static_cast<std::size_t>(index)];
}

void Summary::add_attempt(const Attempt& attempt) {
  ++attempts_;
  if (attempt.number > 1) ++retries_;
  if (attempt.number == 1 && attempt.outcome != Outcome::kOk) ++first_attempt_failures_;
  ++by_outcome_[std::string(traffic::to_text(attempt.outcome))];
  if (attempt.status) ++by_status_[std::to_string(*attempt.status)];
  if (attempt.backend) ++by_backend_[*attempt.backend];
  if (attempt.connect_us) connect_us_.push_back(*attempt.connect_us);
}

void Summary::add_request(bool served, std::int64_t latency_us) {
  if (!served) ++unserved_;
  latency_us_.push_back(latency_us);
}

std::optional<double> Summary::amplification() const {
  // By first attempts, not by requests: some of those were never sent, or abandoned before any end.
  const std::uint64_t first_attempts = attempts_ - retries_;
  if (first_attempts == 0) return std::nullopt;
  return static_cast<double>(attempts_) / static_cast<double>(first_attempts);
}

json::object Summary::to_json() {
  json::object object;
  object["schema"] = "petrel/traffic/v1";
  object["requests"] = requests();
  object["attempts"] = attempts_;
  object["first_attempt_failures"] = first_attempt_failures_;
  object["retries"] = retries_;
  const auto amplified = amplification();
  object["amplification"] = amplified ? json::value(*amplified) : json::value(nullptr);
  object["never_served"] = never_served();
  object["skipped"] = skipped_;
  object["abandoned"] = abandoned_;
  object["p50_ms"] = ms_or_null(percentile(latency_us_, 0.5));
  object["p99_ms"] = ms_or_null(percentile(latency_us_, 0.99));
  object["p999_ms"] = ms_or_null(percentile(latency_us_, 0.999));
  object["by_outcome"] = counts(by_outcome_);
  object["by_status"] = counts(by_status_);
  object["by_backend"] = counts(by_backend_);
  object["connect_p50_us"] = number_or_null(percentile(connect_us_, 0.5));
  object["connect_p99_us"] = number_or_null(percentile(connect_us_, 0.99));
  object["late_start_p99_ms"] = ms_or_null(percentile(late_start_us_, 0.99));
  return object;
}

std::string Summary::to_text() {
  std::ostringstream out;
  out << "requests        " << requests() << " (" << never_served() << " never served, " << skipped_
      << " of them not sent; " << abandoned_ << " abandoned)\n"
      << "attempts        " << attempts_ << " (" << retries_ << " retries, "
      << first_attempt_failures_ << " first attempts failed, amplification " << std::fixed
      << std::setprecision(3) << amplification().value_or(1) << ")\n"
      << "latency         p50 " << ms_text(percentile(latency_us_, 0.5)) << ", p99 "
      << ms_text(percentile(latency_us_, 0.99)) << ", p99.9 "
      << ms_text(percentile(latency_us_, 0.999)) << "\n"
      << "connect         p50 " << ms_text(percentile(connect_us_, 0.5)) << ", p99 "
      << ms_text(percentile(connect_us_, 0.99)) << "\n"
      << "outcomes        " << counts_text(by_outcome_) << "\n"
      << "status codes    " << counts_text(by_status_) << "\n"
      << "backends        " << counts_text(by_backend_) << "\n"
      << "generator late  p99 " << ms_text(percentile(late_start_us_, 0.99)) << "\n";
  return out.str();
}

}  // namespace petrel::traffic
