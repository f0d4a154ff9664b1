// SPDX-License-Identifier: MIT
// ClientConnection: one TCP connection of a client, with deadlines.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/system/error_code.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace petrel::traffic {

struct Answer {
  unsigned status = 0;
  std::optional<std::string> backend;  // X-Backend
  bool keep_alive = false;
};

// Held by std::shared_ptr. Errors are the kernel's, or asio::error::timed_out for a deadline; after
// any of them the connection is of no more use.
class ClientConnection : public std::enable_shared_from_this<ClientConnection> {
 public:
  using Deadline = boost::asio::steady_timer::time_point;

  ClientConnection(boost::asio::io_context& io, boost::asio::ip::tcp::endpoint target)
      : socket_(io), timer_(io), target_(target) {}

  // From `source`, or from an address of the kernel's choice. The port is the kernel's choice, made
  // for this source and target together, so that each source has all ports to itself.
  boost::asio::awaitable<boost::system::error_code> connect(
      std::optional<boost::asio::ip::address> source, Deadline deadline);

  // Sends the request and reads one answer.
  boost::asio::awaitable<boost::system::error_code> ask(std::string_view request, Answer& answer,
                                                        Deadline deadline);

  // Ends what is under way with operation_aborted.
  void cancel();

  // Whether an idle connection can still be used: open, and nothing to read, for that would be
  // the server's FIN (or an answer nobody asked for).
  bool is_usable();

  // This end of it; port 0 while there is none.
  const boost::asio::ip::tcp::endpoint& local() const { return local_; }

 private:
  void arm(Deadline deadline);
  void disarm();
  boost::system::error_code open_and_bind(std::optional<boost::asio::ip::address> source);

  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  boost::asio::ip::tcp::endpoint target_;
  boost::asio::ip::tcp::endpoint local_;
  boost::beast::flat_buffer buffer_;
  unsigned armed_ = 0;  // which arming the timer belongs to; a late expiry of an older one is void
  bool timed_out_ = false;
};

}  // namespace petrel::traffic
