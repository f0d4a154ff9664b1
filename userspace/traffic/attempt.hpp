// SPDX-License-Identifier: MIT
// Attempt: one try of a client to get its request served, and how it ended.
#pragma once

#include <boost/system/error_code.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace petrel::traffic {

enum class Outcome {
  kOk,
  kRefused,          // RST in answer to the SYN
  kConnectTimeout,   // no handshake in time
  kResponseTimeout,  // connected, and no complete answer in time
  kReset,            // RST after the handshake
  kEof,              // closed by the other side before the answer was complete
  kStatus,           // answered 429 or 5xx
  kError,            // anything else, named in Attempt::error
};

// Who asks: a user, who retries as the policy says, or a poller, who asks again when it is time.
enum class Kind { kUser, kPoll };

std::string_view to_text(Outcome outcome);
std::string_view to_text(Kind kind);

// A failed connect, and a failed exchange on a connection that was established.
Outcome outcome_of_connect(const boost::system::error_code& ec);
Outcome outcome_of_exchange(const boost::system::error_code& ec);

// An answer that arrived: 429 and 5xx count as failures that a client retries.
Outcome outcome_of_status(unsigned status);

// Times in ns are CLOCK_MONOTONIC.
struct Attempt {
  std::uint64_t request = 0;  // from 1
  int number = 1;             // 1 is the first attempt, all others are retries
  Kind kind = Kind::kUser;
  std::string_view target = {};
  std::string_view path = {};
  std::optional<std::uint64_t> post_bytes = {};  // the body of a POST; none: a GET
  std::string client = {};       // source address; empty if no socket could be opened
  std::uint16_t port = 0;        // source port; 0 if there never was one
  std::int64_t intended_ns = 0;  // when the request was due
  std::int64_t start_ns = 0;     // when this attempt began
  std::int64_t end_ns = 0;
  std::optional<std::int64_t> connect_us = {};   // SYN to established; none on a reused connection
  std::optional<std::int64_t> response_us = {};  // request handed to the kernel to complete answer
  Outcome outcome = Outcome::kError;
  std::optional<unsigned> status = {};
  std::optional<std::string> backend = {};  // the answer's X-Backend header
  std::optional<std::string> error = {};    // what kError was
  bool reused = false;                      // on an idle connection of keep-alive
};

// Whether a client may send it once more by itself: what is no POST always, a POST only where its
// connection was never established, so that nothing of it can have been acted on (RFC 9110, 9.2.2).
bool may_repeat(const Attempt& failed, bool retry_posts);

}  // namespace petrel::traffic
