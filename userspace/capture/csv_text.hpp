// SPDX-License-Identifier: MIT
// One line of CSV (RFC 4180), without its newline: written field by field, and taken apart.
// Integers are decimal and whole; a field is quoted where it must be; no field spans lines.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace petrel {

class CsvLine {
 public:
  // Begins with a field of its own: the agent's stream has the table's name first.
  explicit CsvLine(std::string_view first) { text(first); }
  CsvLine() = default;

  CsvLine& text(std::string_view field);
  template <std::integral Number>
  CsvLine& number(Number value) {
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
    return raw({digits, static_cast<std::size_t>(end - digits)});
  }
  // A share of `whole`, rounded to 4 decimals: "0.9961".
  CsvLine& share(std::uint32_t part, std::uint32_t whole);

  const std::string& str() const { return line_; }

 private:
  CsvLine& raw(std::string_view field);

  std::string line_;
  bool empty_ = true;
};

// The fields of a line; false where a quote is not closed or is followed by text.
bool split_csv(std::string_view line, std::vector<std::string>& fields);

}  // namespace petrel
