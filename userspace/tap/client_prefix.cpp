// SPDX-License-Identifier: MIT
#include "tap/client_prefix.hpp"

#include <charconv>
#include <string>

#include "config/address.hpp"

namespace petrel::tap {
namespace {

bool ends_at(const bpf::address& address, std::uint32_t bits) {
  for (std::uint32_t bit = bits; bit < 128; ++bit) {
    if ((address.bytes[bit / 8] & (0x80 >> (bit % 8))) != 0) return false;
  }
  return true;
}

}  // namespace

Result<ClientPrefix> parse_client_prefix(std::string_view text) {
  const auto slash = text.find('/');
  auto address = parse_address(text.substr(0, slash));
  if (!address) return address.error();
  const std::uint32_t before = is_v4(*address) ? 96 : 0;
  std::uint32_t bits = 128 - before;
  if (slash != std::string_view::npos) {
    const std::string_view length = text.substr(slash + 1);
    const char* end = length.data() + length.size();
    const auto parsed = std::from_chars(length.data(), end, bits);
    if (parsed.ec != std::errc{} || parsed.ptr != end || bits > 128 - before) {
      return Error(ExitCode::kUsage, "'" + std::string(text) +
                                         "': expected a prefix length of 0 to " +
                                         std::to_string(128 - before));
    }
  }
  if (!ends_at(*address, before + bits)) {
    return Error(ExitCode::kUsage, "'" + std::string(text) + "' has bits beyond its length of " +
                                       std::to_string(bits));
  }
  return ClientPrefix{*address, before + bits};
}

}  // namespace petrel::tap
