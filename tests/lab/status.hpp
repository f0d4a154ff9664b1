// SPDX-License-Identifier: MIT
// What tests read: the agent's status, a client's summary and its log, by JSON pointer. A field
// that is not there throws.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace petrel::test {

class Facts {
 public:
  explicit Facts(const std::string& json);

  double number(const std::string& pointer) const;
  std::string text(const std::string& pointer) const;
  bool flag(const std::string& pointer) const;
  const boost::json::value& at(const std::string& pointer) const;

 private:
  boost::json::value value_;
};

// petrel/status/v1. Services count from 0, as in the configuration; backends from 1, as in their
// names.
class Status : public Facts {
 public:
  using Facts::Facts;

  double service(const std::string& field, int service = 0) const;
  double backend(int number, const std::string& field, int service = 0) const;
  std::string backend_text(int number, const std::string& field, int service = 0) const;
  double factor(int number) const { return backend(number, "factor"); }

  // Of all backends of a service.
  double sum(const std::string& field, int service = 0) const;

  // The least factor of all; factors and reasons in one line, for messages.
  double least_factor() const;
  std::string weights() const;
};

// petrel/traffic/v1.
class Summary : public Facts {
 public:
  using Facts::Facts;

  double attempts() const { return number("/attempts"); }
  double retries() const { return number("/retries"); }
  // Attempts by their end: "ok", "refused", "connect_timeout", ...
  double ended(const std::string& outcome) const;
  double failed() const { return attempts() - ended("ok"); }
  std::string outcomes() const;  // for messages
};

// One attempt of a client's log. Times are CLOCK_MONOTONIC.
struct LoggedAttempt {
  std::string connection;  // its client's address and port: a port alone may be of several
  std::int64_t start_ns = 0;
  std::int64_t end_ns = 0;
  std::optional<double> connect_us;  // none on a connection that was there before
  std::string outcome;
  std::string backend;  // "": not answered
};

std::vector<LoggedAttempt> read_attempts(const std::string& log_path);

}  // namespace petrel::test
