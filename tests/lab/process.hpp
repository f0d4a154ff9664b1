// SPDX-License-Identifier: MIT
// Process: a child of the test with its output kept in memory, so that it can be shown if the test
// fails. Ends with its object.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"

namespace petrel::test {

using namespace std::chrono_literals;

class Process {
 public:
  // Starts argv[0], looked up in PATH; throws std::runtime_error if that fails.
  Process(std::string name, const std::vector<std::string>& argv);
  ~Process();  // SIGTERM, and SIGKILL for one that does not end on it
  Process(Process&&) = delete;

  const std::string& name() const { return name_; }
  bool running();
  void send(int signal);

  // Its exit code once it has ended, 128 + N if by signal N; throws past the deadline.
  int wait(std::chrono::milliseconds deadline = 10s);
  int stop(int signal, std::chrono::milliseconds deadline = 10s) {
    send(signal);
    return wait(deadline);
  }

  // So far.
  std::string out() const;
  std::string err() const;

 private:
  bool has_ended(int timeout_ms);

  std::string name_;
  pid_t pid_ = -1;
  UniqueFd pid_fd_;
  UniqueFd out_;  // memfds
  UniqueFd err_;
  int exit_code_ = -1;  // -1: not ended
};

struct Finished {
  int exit_code;
  std::string out;
  std::string err;
};

// Runs it to its end.
Finished run(const std::vector<std::string>& argv, std::chrono::milliseconds deadline = 20s);

}  // namespace petrel::test
