// SPDX-License-Identifier: MIT
// Servers that nobody here wrote, on each backend of a lab, and the files that they need. All of
// them listen on every address of their node, a dsr backend's VIPs included.
#pragma once

#include <string>

#include "tests/lab/lab.hpp"

namespace petrel::test {

// A directory of its own that goes with it. Not in the lab's: see Sshd.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(TemporaryDirectory&&) = delete;
  std::string path(const std::string& file) const { return path_ + "/" + file; }

 private:
  std::string path_;
};

// Random bytes, so that no piece of them can pass for another.
void write_random_file(const std::string& path, std::size_t bytes);
bool same_contents(const std::string& left, const std::string& right);
std::string sha256_of(const std::string& path);

// GET /file is answered with the file, /paced with the same over 2 s, other GETs with the backend's
// name and a newline, POST with the SHA-256 of what it was sent.
void start_file_servers(Lab& lab, int port, const std::string& file);

// Answers TXT queries for kDnsName with the backend's name, over UDP and TCP.
void start_dns_servers(Lab& lab, int port);
inline constexpr const char* kDnsName = "who.petrel.test";

void start_iperf_servers(Lab& lab, int port);

// sshd with a host key of its own on each backend, for root with the one key made here. Nothing of
// it is outside of the directory: the /run that it insists on is its own.
class Sshd {
 public:
  Sshd(Lab& lab, int port);
  // `ssh VIP COMMAND` as a shell line, to be redirected at will.
  std::string client_line(Family family, const std::string& command) const;

 private:
  void write_known_hosts() const;

  Lab& lab_;
  int port_;
  TemporaryDirectory directory_;
};

}  // namespace petrel::test
