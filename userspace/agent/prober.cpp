// SPDX-License-Identifier: MIT
#include "agent/prober.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cstring>
#include <sstream>

#include "config/address.hpp"

namespace petrel {
namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;

namespace {

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::chrono::milliseconds kPatience{500};
constexpr std::chrono::milliseconds kAnswerPatience{1000};

tcp::endpoint endpoint_of(const bpf::address& address, std::uint16_t port) {
  if (is_v4(address)) {
    asio::ip::address_v4::bytes_type bytes;
    std::memcpy(bytes.data(), &address.bytes[12], bytes.size());
    return {asio::ip::address_v4(bytes), port};
  }
  asio::ip::address_v6::bytes_type bytes;
  std::memcpy(bytes.data(), address.bytes, bytes.size());
  return {asio::ip::address_v6(bytes), port};
}

using namespace asio::experimental::awaitable_operators;

asio::awaitable<ProbeResult> connect_to(const tcp::endpoint& endpoint, tcp::socket& socket) {
  boost::system::error_code error;
  socket.open(endpoint.protocol(), error);
  if (error) co_return ProbeResult::kUnknown;
  // RST on close: the probe leaves no TIME-WAIT behind, here or there.
  socket.set_option(asio::socket_base::linger(true, 0), error);
  asio::steady_timer patience(socket.get_executor(), kPatience);
  const auto outcome =
      co_await (socket.async_connect(endpoint, kAsTuple) || patience.async_wait(kAsTuple));
  if (outcome.index() == 1) co_return ProbeResult::kSilent;
  error = std::get<0>(std::get<0>(outcome));
  if (!error) co_return ProbeResult::kAnswers;
  if (error == asio::error::connection_refused) co_return ProbeResult::kRefuses;
  if (error == asio::error::timed_out || error == asio::error::host_unreachable) {
    co_return ProbeResult::kSilent;
  }
  co_return ProbeResult::kUnknown;
}

std::string host_of(const tcp::endpoint& endpoint) {
  std::ostringstream text;
  text << endpoint;  // "[::1]:80"
  return text.str();
}

// GET; the answer's head is all that is read.
asio::awaitable<ProbeResult> ask(tcp::socket& socket, const std::string& host,
                                 const std::string& path) {
  http::request<http::empty_body> request(http::verb::get, path, 11);
  request.set(http::field::host, host);
  request.set(http::field::user_agent, "petrel");
  request.set(http::field::connection, "close");
  const auto [write_error, written] = co_await http::async_write(socket, request, kAsTuple);
  if (write_error) co_return ProbeResult::kRefuses;
  boost::beast::flat_buffer buffer;
  http::response_parser<http::empty_body> parser;
  const auto [read_error, read] = co_await http::async_read_header(socket, buffer, parser, kAsTuple);
  if (read_error == asio::error::operation_aborted) co_return ProbeResult::kSilent;
  if (read_error) co_return ProbeResult::kRefuses;
  const unsigned status = parser.get().result_int();
  co_return status >= 200 && status < 400 ? ProbeResult::kAnswers : ProbeResult::kRefuses;
}

}  // namespace

asio::awaitable<ProbeResult> probe_backend(ProbeTarget target) {
  tcp::socket socket(co_await asio::this_coro::executor);
  const tcp::endpoint endpoint = endpoint_of(target.address, target.port);
  const ProbeResult connected = co_await connect_to(endpoint, socket);
  if (connected != ProbeResult::kAnswers || target.path.empty()) co_return connected;
  asio::steady_timer patience(socket.get_executor(), kAnswerPatience);
  const std::string host = host_of(endpoint);
  const auto outcome =
      co_await (ask(socket, host, target.path) || patience.async_wait(kAsTuple));
  co_return outcome.index() == 1 ? ProbeResult::kSilent : std::get<0>(outcome);
}

}  // namespace petrel
