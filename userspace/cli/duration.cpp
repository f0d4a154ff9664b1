// SPDX-License-Identifier: MIT
#include "cli/duration.hpp"

#include <charconv>

namespace petrel::cli {

std::optional<double> parse_duration_s(std::string_view text) {
  double count = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, count, std::chars_format::fixed);
  if (failure != std::errc{} || stopped + 1 != end || !(count > 0)) return std::nullopt;
  switch (*stopped) {
    case 's':
      return count;
    case 'm':
      return count * 60;
    case 'h':
      return count * 3600;
    case 'd':
      return count * 86400;
    default:
      return std::nullopt;
  }
}

}  // namespace petrel::cli
