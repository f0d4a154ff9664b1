// SPDX-License-Identifier: MIT
#include "config/address.hpp"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <iterator>

namespace petrel {
namespace {

namespace ip = boost::asio::ip;

constexpr std::uint16_t kLastPort = 65535;

ip::address_v6 as_v6(const bpf::address& address) {
  ip::address_v6::bytes_type bytes;
  std::copy(std::begin(address.bytes), std::end(address.bytes), bytes.begin());
  return ip::address_v6(bytes);
}

std::string host_text(const bpf::address& address) {
  const std::string host = to_string(address);
  return is_v4(address) ? host : "[" + host + "]";
}

}  // namespace

Result<bpf::address> parse_address(std::string_view text) {
  boost::system::error_code failure;
  const ip::address parsed = ip::make_address(std::string(text), failure);
  // Neither has room for a scope; without this check it would be dropped in silence.
  if (failure || text.find('%') != std::string_view::npos) {
    return Error(ExitCode::kInput, "'" + std::string(text) + "' is no IPv4 or IPv6 address");
  }
  const ip::address_v6 wide =
      parsed.is_v4() ? ip::make_address_v6(ip::v4_mapped, parsed.to_v4()) : parsed.to_v6();
  bpf::address address{};
  const ip::address_v6::bytes_type bytes = wide.to_bytes();
  std::copy(bytes.begin(), bytes.end(), std::begin(address.bytes));
  return address;
}

std::string to_string(const bpf::address& address) {
  const ip::address_v6 wide = as_v6(address);
  return wide.is_v4_mapped() ? ip::make_address_v4(ip::v4_mapped, wide).to_string()
                             : wide.to_string();
}

bool is_v4(const bpf::address& address) {
  return as_v6(address).is_v4_mapped();
}

bool same_address(const bpf::address& left, const bpf::address& right) {
  return std::equal(std::begin(left.bytes), std::end(left.bytes), std::begin(right.bytes));
}

bool is_one_host(const bpf::address& address) {
  const ip::address_v6 wide = as_v6(address);
  if (!wide.is_v4_mapped()) return !wide.is_unspecified() && !wide.is_multicast();
  const ip::address_v4 narrow = ip::make_address_v4(ip::v4_mapped, wide);
  return !narrow.is_unspecified() && !narrow.is_multicast() &&
         narrow != ip::address_v4::broadcast();
}

std::string endpoint_text(const bpf::address& address, std::uint16_t port) {
  return host_text(address) + ":" + std::to_string(port);
}

std::string endpoint_text(const bpf::address& address, std::uint16_t first_port,
                          std::uint16_t last_port) {
  if (first_port == last_port) return endpoint_text(address, first_port);
  if (first_port == 0 && last_port == kLastPort) return host_text(address) + ":all";
  return endpoint_text(address, first_port) + "-" + std::to_string(last_port);
}

}  // namespace petrel
