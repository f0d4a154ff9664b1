// SPDX-License-Identifier: MIT
#include "traffic/attempt.hpp"

#include <boost/asio/error.hpp>
#include <boost/beast/http/error.hpp>

namespace petrel::traffic {

namespace asio = boost::asio;
namespace http = boost::beast::http;

std::string_view to_text(Outcome outcome) {
  switch (outcome) {
    case Outcome::kOk:
      return "ok";
    case Outcome::kRefused:
      return "refused";
    case Outcome::kConnectTimeout:
      return "connect_timeout";
    case Outcome::kResponseTimeout:
      return "response_timeout";
    case Outcome::kReset:
      return "reset";
    case Outcome::kEof:
      return "eof";
    case Outcome::kStatus:
      return "status";
    case Outcome::kError:
      break;
  }
  return "error";
}

std::string_view to_text(Kind kind) {
  return kind == Kind::kPoll ? "poll" : "user";
}

Outcome outcome_of_connect(const boost::system::error_code& ec) {
  if (ec == asio::error::connection_refused) return Outcome::kRefused;
  if (ec == asio::error::timed_out) return Outcome::kConnectTimeout;
  // The RST of a server that accepts and resets may arrive before the client looks at its socket.
  if (ec == asio::error::connection_reset || ec == asio::error::broken_pipe) return Outcome::kReset;
  return Outcome::kError;
}

Outcome outcome_of_exchange(const boost::system::error_code& ec) {
  if (ec == asio::error::timed_out) return Outcome::kResponseTimeout;
  if (ec == asio::error::connection_reset || ec == asio::error::broken_pipe) return Outcome::kReset;
  if (ec == asio::error::eof || ec == http::error::end_of_stream ||
      ec == http::error::partial_message) {
    return Outcome::kEof;
  }
  return Outcome::kError;
}

Outcome outcome_of_status(unsigned status) {
  const bool failed = status == 429 || (status >= 500 && status <= 599);
  return failed ? Outcome::kStatus : Outcome::kOk;
}

bool may_repeat(const Attempt& failed, bool retry_posts) {
  const bool established = failed.reused || failed.connect_us;
  return !failed.post_bytes || retry_posts || !established;
}

}  // namespace petrel::traffic
