// SPDX-License-Identifier: MIT
#include "agent/prober.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>

#include "config/address.hpp"

namespace petrel {
namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::chrono::milliseconds kPatience{500};

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

}  // namespace

asio::awaitable<ProbeResult> probe_backend(bpf::address address, std::uint16_t port) {
  using namespace asio::experimental::awaitable_operators;
  const auto executor = co_await asio::this_coro::executor;
  const tcp::endpoint endpoint = endpoint_of(address, port);
  tcp::socket socket(executor);
  boost::system::error_code error;
  socket.open(endpoint.protocol(), error);
  if (error) co_return ProbeResult::kUnknown;
  // RST on close: the probe leaves no TIME-WAIT behind, here or there.
  socket.set_option(asio::socket_base::linger(true, 0), error);
  asio::steady_timer patience(executor, kPatience);
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

}  // namespace petrel
