// SPDX-License-Identifier: MIT
#include "traffic/source_range.hpp"

#include <algorithm>
#include <charconv>
#include <string>

namespace petrel::traffic {

namespace ip = boost::asio::ip;

namespace {

constexpr unsigned kMostHostBits = 32;

// network + offset, as one big-endian number; the offset never leaves the network.
ip::address plus(const ip::address& network, std::uint64_t offset) {
  if (network.is_v4()) {
    return ip::make_address_v4(network.to_v4().to_uint() + static_cast<std::uint32_t>(offset));
  }
  auto bytes = network.to_v6().to_bytes();
  std::uint64_t carry = offset;
  for (auto byte = bytes.rbegin(); byte != bytes.rend() && carry != 0; ++byte) {
    carry += *byte;
    *byte = static_cast<unsigned char>(carry & 0xff);
    carry >>= 8;
  }
  return ip::make_address_v6(bytes);
}

// The address with every bit behind the prefix cleared.
ip::address network_of(const ip::address& address, unsigned prefix_bits) {
  const auto masked = [prefix_bits](auto bytes) {
    for (unsigned bit = prefix_bits; bit < bytes.size() * 8; ++bit) {
      bytes[bit / 8] = static_cast<unsigned char>(bytes[bit / 8] & ~(0x80U >> (bit % 8)));
    }
    return bytes;
  };
  if (address.is_v4()) return ip::make_address_v4(masked(address.to_v4().to_bytes()));
  return ip::make_address_v6(masked(address.to_v6().to_bytes()));
}

}  // namespace

SourceRange::SourceRange(ip::address network, unsigned prefix_bits) : network_(network) {
  const unsigned host_bits = (network.is_v6() ? 128 : 32) - prefix_bits;
  const std::uint64_t addresses = 1ULL << std::min(host_bits, kMostHostBits);
  if (host_bits <= 1) {
    size_ = addresses;  // /31, /32 (RFC 3021) and /127, /128 have no address to spare
    return;
  }
  first_ = 1;
  size_ = addresses - (network.is_v6() ? 1 : 2);
}

Result<SourceRange> SourceRange::parse(std::string_view cidr) {
  const auto wrong = [&](const std::string& why) {
    return Error(ExitCode::kUsage,
                 "expected a network such as 10.1.128.0/20 or fd00:1::/64, found '" +
                     std::string(cidr) + "'" + why);
  };
  const auto slash = cidr.find('/');
  if (slash == std::string_view::npos) return wrong(" (no prefix length)");

  boost::system::error_code ec;
  const ip::address address = ip::make_address(std::string(cidr.substr(0, slash)), ec);
  if (ec) return wrong(" (no address before the '/')");

  const std::string_view digits = cidr.substr(slash + 1);
  const unsigned most_bits = address.is_v6() ? 128 : 32;
  unsigned prefix_bits = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), prefix_bits);
  if (error != std::errc() || end != digits.data() + digits.size() || prefix_bits > most_bits) {
    return wrong(" (the prefix length is 0 to " + std::to_string(most_bits) + ")");
  }

  const ip::address network = network_of(address, prefix_bits);
  if (network != address) {
    return wrong(" (did you mean " + network.to_string() + "/" + std::to_string(prefix_bits) +
                 "?)");
  }
  return SourceRange(network, prefix_bits);
}

ip::address SourceRange::at(std::uint64_t client) const {
  return plus(network_, first_ + client);
}

}  // namespace petrel::traffic
