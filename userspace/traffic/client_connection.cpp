// SPDX-License-Identifier: MIT
#include "traffic/client_connection.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>

namespace petrel::traffic {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

error_code last_error() {
  return {errno, boost::system::system_category()};
}

}  // namespace

asio::awaitable<error_code> ClientConnection::connect(std::optional<asio::ip::address> source,
                                                      Deadline deadline) {
  if (const error_code ec = open_and_bind(source); ec) co_return ec;

  // By hand, not by async_connect(): the source port is known from here on, also if the handshake
  // never completes, and what the log says of it can be matched with what the balancer saw.
  const int result =
      ::connect(socket_.native_handle(), target_.data(), static_cast<socklen_t>(target_.size()));
  const error_code connect_ec = result == 0 ? error_code() : last_error();
  error_code ec;
  local_ = socket_.local_endpoint(ec);
  if (connect_ec && connect_ec != asio::error::in_progress) co_return connect_ec;

  if (connect_ec) {
    arm(deadline);
    const auto [wait_ec] = co_await socket_.async_wait(tcp::socket::wait_write, kTuple);
    disarm();
    if (timed_out_) co_return asio::error::timed_out;
    if (wait_ec) co_return wait_ec;
    int socket_error = 0;
    socklen_t size = sizeof socket_error;
    if (::getsockopt(socket_.native_handle(), SOL_SOCKET, SO_ERROR, &socket_error, &size) != 0) {
      co_return last_error();
    }
    if (socket_error != 0) co_return error_code(socket_error, boost::system::system_category());
  }
  socket_.set_option(tcp::no_delay(true), ec);
  co_return error_code();
}

error_code ClientConnection::open_and_bind(std::optional<asio::ip::address> source) {
  error_code ec;
  if (socket_.open(target_.protocol(), ec); ec) return ec;
  if (socket_.native_non_blocking(true, ec); ec) return ec;
  if (!source) return ec;

  const int on = 1;
  const int fd = socket_.native_handle();
  // Ports are chosen at connect(), by the whole 4-tuple: bind() alone would use each of the 28,000
  // once for all targets. (Both options work on IPv6 sockets too.)
  if (::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
      // The addresses are local by a route of type local, not configured one by one.
      ::setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on) != 0) {
    return last_error();
  }
  socket_.bind(tcp::endpoint(*source, 0), ec);
  return ec;
}

asio::awaitable<error_code> ClientConnection::ask(std::string_view request, Answer& answer,
                                                  Deadline deadline) {
  arm(deadline);
  const auto [write_ec, written] =
      co_await asio::async_write(socket_, asio::buffer(request.data(), request.size()), kTuple);
  error_code ec = write_ec;
  http::response_parser<http::string_body> parser;
  if (!ec && !timed_out_) {
    const auto [read_ec, read] = co_await http::async_read(socket_, buffer_, parser, kTuple);
    ec = read_ec;
  }
  disarm();
  // A complete answer counts, even if the deadline passed while it was on its way up to here.
  if (ec || !parser.is_done()) co_return timed_out_ ? error_code(asio::error::timed_out) : ec;

  answer.status = parser.get().result_int();
  answer.keep_alive = parser.get().keep_alive();
  if (const auto found = parser.get().find("X-Backend"); found != parser.get().end()) {
    answer.backend = std::string(found->value());
  }
  co_return error_code();
}

void ClientConnection::cancel() {
  error_code ignored;
  socket_.close(ignored);
}

bool ClientConnection::is_usable() {
  if (!socket_.is_open() || buffer_.size() != 0) return false;
  char byte = 0;
  const auto got = ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

void ClientConnection::arm(Deadline deadline) {
  timed_out_ = false;
  timer_.expires_at(deadline);
  timer_.async_wait([weak = weak_from_this(), arming = ++armed_](const error_code& ec) {
    const auto self = weak.lock();
    if (ec || !self || self->armed_ != arming) return;
    self->timed_out_ = true;
    self->cancel();
  });
}

void ClientConnection::disarm() {
  ++armed_;
  timer_.cancel();
}

}  // namespace petrel::traffic
