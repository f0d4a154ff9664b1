// SPDX-License-Identifier: MIT
// Summary: what a run of the client came to.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "traffic/attempt.hpp"

namespace petrel::traffic {

// The nearest-rank percentile: the least value that at least share (0 to 1) of all values do not
// exceed. Nothing for no values. Reorders the values.
std::optional<std::int64_t> percentile(std::vector<std::int64_t>& values, double share);

class Summary {
 public:
  void add_attempt(const Attempt& attempt);

  // A request that ended. Its latency runs from the moment it was due to its answer, or, if it was
  // never served, to the moment when its client gave up.
  void add_request(bool served, std::int64_t latency_us);

  // How late the generator itself was in starting a request.
  void add_late_start(std::int64_t late_us) { late_start_us_.push_back(late_us); }

  // A request that was due while too many were under way: never sent, never served, and in no
  // percentile, for it has no latency.
  void add_skipped() { ++skipped_; }

  // Requests cut short by the end of the run: they are requests, and neither served nor not.
  void add_abandoned(std::uint64_t count) { abandoned_ += count; }

  std::uint64_t requests() const { return latency_us_.size() + skipped_ + abandoned_; }
  std::uint64_t attempts() const { return attempts_; }
  std::uint64_t retries() const { return retries_; }
  std::uint64_t never_served() const { return unserved_ + skipped_; }
  std::uint64_t skipped() const { return skipped_; }

  // Attempts for each request that was sent; nothing if none was.
  std::optional<double> amplification() const;

  // "petrel/traffic/v1"; a number that does not exist (a percentile of nothing) is null.
  boost::json::object to_json();

  // The same for people, several lines.
  std::string to_text();

 private:
  std::uint64_t attempts_ = 0;
  std::uint64_t first_attempt_failures_ = 0;
  std::uint64_t retries_ = 0;
  std::uint64_t unserved_ = 0;
  std::uint64_t skipped_ = 0;
  std::uint64_t abandoned_ = 0;
  std::map<std::string, std::uint64_t> by_outcome_;
  std::map<std::string, std::uint64_t> by_status_;
  std::map<std::string, std::uint64_t> by_backend_;
  std::vector<std::int64_t> latency_us_;
  std::vector<std::int64_t> connect_us_;
  std::vector<std::int64_t> late_start_us_;
};

}  // namespace petrel::traffic
