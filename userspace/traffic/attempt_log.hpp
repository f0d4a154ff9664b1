// SPDX-License-Identifier: MIT
// AttemptLog: one JSON object a line for each attempt, and one for each request that ended.
//
// {"request":7,"attempt":1,"kind":"user","target":"10.0.0.1:80","path":"/","client":"10.1.128.9",
//  "port":40112,
//  "intended_ns":...,"start_ns":...,"connect_us":210,"response_us":10433,"outcome":"ok",
//  "status":200,"backend":"b1","reused":false,"end_ns":...}           and "error" when that is one
// {"request_done":7,"served":true,"attempts":1,"latency_us":10701}
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

#include "base/error.hpp"
#include "traffic/attempt.hpp"

namespace petrel::traffic {

class AttemptLog {
 public:
  // Creates the file, or empties it. Without open(), nothing is written.
  Result<> open(const std::string& path);

  void write(const Attempt& attempt);
  void write_done(std::uint64_t request, bool served, int attempts, std::int64_t latency_us);

  // Whether all of it has reached the file (a full disk shows here).
  Result<> close();

 private:
  std::string path_;
  std::ofstream file_;
};

}  // namespace petrel::traffic
