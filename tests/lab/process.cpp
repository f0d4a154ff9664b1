// SPDX-License-Identifier: MIT
#include "tests/lab/process.hpp"

#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <stdexcept>

#include "base/error.hpp"

extern "C" {  // glibc 2.36 leaves that out of this header
#include <sys/pidfd.h>
}

extern char** environ;

namespace petrel::test {
namespace {

[[noreturn]] void fail(int errno_value, const std::string& what) {
  throw std::runtime_error(what + ": " + errno_name(errno_value));
}

std::string contents(int fd) {
  std::string text;
  char piece[16384];
  for (;;) {
    const ssize_t got = ::pread(fd, piece, sizeof piece, static_cast<off_t>(text.size()));
    if (got <= 0) return text;
    text.append(piece, static_cast<std::size_t>(got));
  }
}

}  // namespace

Process::Process(std::string name, const std::vector<std::string>& argv)
    : name_(std::move(name)),
      out_(::memfd_create("stdout", MFD_CLOEXEC)),
      err_(::memfd_create("stderr", MFD_CLOEXEC)) {
  if (!out_ || !err_) fail(errno, "memfd_create");
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", 0, 0);
  ::posix_spawn_file_actions_adddup2(&actions, out_.get(), 1);
  ::posix_spawn_file_actions_adddup2(&actions, err_.get(), 2);
  const int rc =
      ::posix_spawnp(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (rc != 0) fail(rc, "start " + argv[0]);
  pid_fd_.reset(::pidfd_open(pid_, 0));
  if (!pid_fd_) fail(errno, "pidfd_open");
}

Process::~Process() {
  if (!pid_fd_ || has_ended(0)) return;
  send(SIGTERM);
  if (has_ended(5000)) return;
  send(SIGKILL);
  has_ended(-1);
}

bool Process::running() { return !has_ended(0); }

void Process::send(int signal) {
  if (exit_code_ < 0) ::kill(pid_, signal);  // not reaped, so the number is still its own
}

int Process::wait(std::chrono::milliseconds deadline) {
  if (!has_ended(static_cast<int>(deadline.count()))) {
    throw std::runtime_error(name_ + " has not ended within " + std::to_string(deadline.count()) +
                             " ms");
  }
  return exit_code_;
}

bool Process::has_ended(int timeout_ms) {
  if (exit_code_ >= 0) return true;
  pollfd ended{pid_fd_.get(), POLLIN, 0};
  if (::poll(&ended, 1, timeout_ms) <= 0) return false;
  int status = 0;
  if (::waitpid(pid_, &status, 0) != pid_) fail(errno, "waitpid");
  exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return true;
}

std::string Process::out() const { return contents(out_.get()); }
std::string Process::err() const { return contents(err_.get()); }

Finished run(const std::vector<std::string>& argv, std::chrono::milliseconds deadline) {
  Process process(argv[0], argv);
  const int code = process.wait(deadline);
  return {code, process.out(), process.err()};
}

}  // namespace petrel::test
