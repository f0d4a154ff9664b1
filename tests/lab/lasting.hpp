// SPDX-License-Identifier: MIT
// Lasting: clients whose connections are kept for as long as nobody ends them, so that a test can tell
// what has become of each.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "base/clock.hpp"
#include "tests/lab/lab.hpp"

namespace petrel::test {

class Lasting {
 public:
  // Waits until each client has made some requests.
  explicit Lasting(Lab& lab, int clients = 30)
      : lab_(lab),
        log_(lab.path("lasting.log")),
        client_(lab.start_client({"--rate", "150", "--duration", "60", "--keep-alive", "--clients",
                                  std::to_string(clients), "--log", log_})) {
    lab.eventually("requests flow", [](const Status& s) { return s.sum("wire/answers") > 100; });
  }

  // From here on what happens is "after".
  void mark() { marked_ns_ = static_cast<std::int64_t>(monotonic_ns()); }
  // Waits for so many more requests.
  void await_more(double requests) {
    const double before = lab_.answered();
    await("requests are answered", [&] { return lab_.answered() > before + requests; });
  }
  Summary end() { return lab_.end_client(client_); }

  // After end(): which backends each connection met.
  std::map<std::string, std::set<std::string>> backends_of_connection() const {
    std::map<std::string, std::set<std::string>> backends;
    for (const LoggedAttempt& attempt : read_attempts(log_)) {
      if (!attempt.backend.empty()) backends[attempt.connection].insert(attempt.backend);
    }
    return backends;
  }
  // Connections with answers before the mark and after it, by backend.
  std::map<std::string, int> survivors() const {
    std::map<std::string, std::string> before;
    std::map<std::string, int> survivors;
    std::set<std::string> counted;
    for (const LoggedAttempt& attempt : read_attempts(log_)) {
      if (attempt.backend.empty()) continue;
      if (attempt.end_ns < marked_ns_) before[attempt.connection] = attempt.backend;
      if (attempt.start_ns > marked_ns_ && before.contains(attempt.connection) &&
          counted.insert(attempt.connection).second) {
        ++survivors[attempt.backend];
      }
    }
    return survivors;
  }

 private:
  Lab& lab_;
  std::string log_;
  Process& client_;
  std::int64_t marked_ns_ = 0;
};

}  // namespace petrel::test
