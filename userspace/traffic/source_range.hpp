// SPDX-License-Identifier: MIT
// SourceRange: the network whose addresses play the clients, such as 10.1.128.0/20.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <cstdint>
#include <string_view>

#include "base/error.hpp"

namespace petrel::traffic {

class SourceRange {
 public:
  // CIDR notation; address bits behind the prefix must be zero.
  static Result<SourceRange> parse(std::string_view cidr);

  // How many addresses may be clients: without the network's own address (in IPv6 the routers'
  // anycast address) and IPv4's broadcast, where the prefix leaves room for them.
  // At most 2^32, also for a network that holds more.
  std::uint64_t size() const { return size_; }

  // The address of client 0 to size() - 1.
  boost::asio::ip::address at(std::uint64_t client) const;

  bool is_v6() const { return network_.is_v6(); }

 private:
  SourceRange(boost::asio::ip::address network, unsigned prefix_bits);

  boost::asio::ip::address network_;
  std::uint64_t first_ = 0;  // offset of client 0 from the network's address
  std::uint64_t size_ = 0;
};

}  // namespace petrel::traffic
