// SPDX-License-Identifier: MIT
// The words that a capture has for the numbers of a record.
#pragma once

#include <cstdint>
#include <string_view>

namespace petrel {

std::string_view capture_failure(std::uint8_t failure);    // "none", "refused" ...
std::string_view capture_closed_by(std::uint8_t closed_by);  // "nobody", "client_fin" ...
std::string_view capture_method(std::uint8_t method);      // "none", "GET" ...
std::string_view capture_owner(std::uint8_t owner);        // "none", "wire" ...

}  // namespace petrel
