// SPDX-License-Identifier: MIT
// ClientOptions: what the load generator is asked to do.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "traffic/retry_policy.hpp"
#include "traffic/source_range.hpp"

namespace petrel::traffic {

struct ClientOptions {
  std::vector<boost::asio::ip::tcp::endpoint> targets;
  double rate_per_s = 100;
  std::chrono::nanoseconds duration = std::chrono::seconds(10);
  // At most one of each family. A target of a family without one is asked from the address that
  // the kernel chooses.
  std::vector<SourceRange> sources;
  std::uint64_t clients = 1024;             // addresses taken of each range, where it has so many
  std::chrono::milliseconds timeout{1000};  // of a whole attempt, its connect included
  std::chrono::milliseconds connect_timeout{1000};  // at most `timeout`
  RetryPolicy retry;
  bool keep_alive = false;
  std::uint64_t paths = 1;  // how many different things users ask for; a retry repeats its path
  double post_share = 0;    // of users' requests that are POST
  double post_mean_bytes = 1000;
  bool retry_posts = false;    // also where a POST was sent and may have been acted on
  std::uint64_t parallel = 1;  // requests that a user sends at once
  std::uint64_t pollers = 0;   // clients 0 to pollers - 1 also poll, without retries
  std::chrono::milliseconds poll_interval{1000};
  std::string id_header;  // empty: none
  std::uint64_t seed = 1;
  std::size_t max_outstanding = 20000;
  std::string log_path;  // empty: no log
  bool json = false;
  bool progress = false;
};

}  // namespace petrel::traffic
