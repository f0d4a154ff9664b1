// SPDX-License-Identifier: MIT
// Listeners: a backend's listening sockets, which can be closed, reopened and made deaf.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "base/error.hpp"

namespace petrel::traffic {

class Listeners {
 public:
  using Accepted = std::function<void(boost::asio::ip::tcp::socket)>;

  // accepted is called for each new connection, from the io_context.
  Listeners(boost::asio::io_context& io, std::vector<boost::asio::ip::tcp::endpoint> endpoints,
            Accepted accepted)
      : io_(io), endpoints_(std::move(endpoints)), accepted_(std::move(accepted)) {}

  // All or none.
  Result<> open();

  // From here on the kernel answers SYNs with RST, and resets what was not accepted yet.
  void close();

  // Whether packets for the listening sockets vanish.
  Result<> set_deaf(bool deaf);

 private:
  using Acceptor = boost::asio::ip::tcp::acceptor;

  boost::asio::awaitable<void> accept_loop(std::shared_ptr<Acceptor> acceptor);

  boost::asio::io_context& io_;
  std::vector<boost::asio::ip::tcp::endpoint> endpoints_;
  Accepted accepted_;
  std::vector<std::shared_ptr<Acceptor>> acceptors_;
};

}  // namespace petrel::traffic
