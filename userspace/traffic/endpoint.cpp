// SPDX-License-Identifier: MIT
#include "traffic/endpoint.hpp"

#include <boost/asio/ip/address.hpp>
#include <charconv>
#include <sstream>

namespace petrel::traffic {

namespace ip = boost::asio::ip;

Result<ip::tcp::endpoint> parse_endpoint(std::string_view text) {
  const auto wrong = [&](const std::string& why) {
    return Error(ExitCode::kUsage,
                 "expected ADDRESS:PORT such as 10.0.0.1:80 or [fd00::1]:80, found '" +
                     std::string(text) + "'" + why);
  };
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong(" (no port)");

  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  boost::system::error_code ec;
  const ip::address address = ip::make_address(std::string(host), ec);
  if (ec) return wrong(" (no address before the port)");
  // Without brackets the last group of an IPv6 address would be taken for the port.
  if (address.is_v6() != bracketed) return wrong(" (brackets belong to IPv6 addresses)");

  const std::string_view digits = text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0) {
    return wrong(" (the port is 1 to 65535)");
  }
  return ip::tcp::endpoint(address, port);
}

std::string to_text(const ip::tcp::endpoint& endpoint) {
  std::ostringstream out;
  out << endpoint;
  return out.str();
}

}  // namespace petrel::traffic
