// SPDX-License-Identifier: MIT
// Durations as people write them on a command line.
#pragma once

#include <optional>
#include <string_view>

namespace petrel::cli {

// "90s", "10m", "2h", "7d", "1.5h": seconds above 0; none where it is not such a text. A number needs
// its unit.
std::optional<double> parse_duration_s(std::string_view text);

}  // namespace petrel::cli
