// SPDX-License-Identifier: MIT
#include "traffic/listeners.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>

#include "traffic/endpoint.hpp"
#include "traffic/packet_filter.hpp"
#include "traffic/rethrow.hpp"

namespace petrel::traffic {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::chrono::milliseconds kAcceptRetry{10};

Result<> listen_on(tcp::acceptor& acceptor, const tcp::endpoint& endpoint) {
  boost::system::error_code ec;
  const auto failed = [&](const char* what) {
    return Error::from_errno(ec.value(), "listen on " + to_text(endpoint) + ": " + what);
  };
  if (acceptor.open(endpoint.protocol(), ec); ec) return failed("open socket");
  // A listener that was just closed leaves connections of its port behind.
  if (acceptor.set_option(tcp::acceptor::reuse_address(true), ec); ec)
    return failed("SO_REUSEADDR");
  if (endpoint.address().is_v6()) {
    // So that [::]:80 and 0.0.0.0:80 can be asked for together.
    if (acceptor.set_option(asio::ip::v6_only(true), ec); ec) return failed("IPV6_V6ONLY");
  }
  if (acceptor.bind(endpoint, ec); ec) return failed("bind");
  if (acceptor.listen(tcp::acceptor::max_listen_connections, ec); ec) return failed("listen");
  return {};
}

}  // namespace

Result<> Listeners::open() {
  std::vector<std::shared_ptr<Acceptor>> opened;
  for (const tcp::endpoint& endpoint : endpoints_) {
    auto acceptor = std::make_shared<Acceptor>(io_);
    if (auto result = listen_on(*acceptor, endpoint); !result) return result;
    opened.push_back(std::move(acceptor));
  }
  acceptors_ = std::move(opened);
  for (const auto& acceptor : acceptors_) asio::co_spawn(io_, accept_loop(acceptor), kRethrow);
  return {};
}

void Listeners::close() {
  boost::system::error_code ignored;
  for (const auto& acceptor : acceptors_) acceptor->close(ignored);
  acceptors_.clear();
}

Result<> Listeners::set_deaf(bool deaf) {
  for (const auto& acceptor : acceptors_) {
    const int fd = acceptor->native_handle();
    if (auto result = deaf ? drop_packets(fd) : pass_packets(fd); !result) return result;
  }
  return {};
}

asio::awaitable<void> Listeners::accept_loop(std::shared_ptr<Acceptor> acceptor) {
  while (acceptor->is_open()) {
    tcp::socket socket(io_);
    const auto [ec] = co_await acceptor->async_accept(socket, kTuple);
    if (!acceptor->is_open()) co_return;
    if (!ec) {
      accepted_(std::move(socket));
      continue;
    }
    // Out of descriptors or memory: what waits in the kernel's queue stays there until some are
    // given back. Trying again at once would only spin.
    asio::steady_timer pause(io_, kAcceptRetry);
    co_await pause.async_wait(kTuple);
  }
}

}  // namespace petrel::traffic
