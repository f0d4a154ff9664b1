// SPDX-License-Identifier: MIT
#include "capture/csv_text.hpp"

namespace petrel {

CsvLine& CsvLine::raw(std::string_view field) {
  if (!empty_) line_ += ',';
  empty_ = false;
  line_ += field;
  return *this;
}

CsvLine& CsvLine::text(std::string_view field) {
  if (field.find_first_of(",\"\n\r") == std::string_view::npos) return raw(field);
  raw("\"");
  for (const char character : field) {
    if (character == '"') line_ += '"';
    line_ += character == '\n' || character == '\r' ? ' ' : character;
  }
  line_ += '"';
  return *this;
}

CsvLine& CsvLine::share(std::uint32_t part, std::uint32_t whole) {
  constexpr std::uint64_t kPlaces = 10000;
  const std::uint64_t scaled = (part * kPlaces + whole / 2) / whole;
  std::string digits = std::to_string(scaled % kPlaces + kPlaces);
  digits.front() = '.';
  return raw(std::to_string(scaled / kPlaces) + digits);
}

bool split_csv(std::string_view line, std::vector<std::string>& fields) {
  fields.clear();
  for (;;) {
    std::string& field = fields.emplace_back();
    if (line.starts_with('"')) {
      line.remove_prefix(1);
      for (;;) {
        const auto quote = line.find('"');
        if (quote == std::string_view::npos) return false;
        field += line.substr(0, quote);
        line.remove_prefix(quote + 1);
        if (!line.starts_with('"')) break;
        field += '"';
        line.remove_prefix(1);
      }
      if (!line.empty() && line.front() != ',') return false;
    } else {
      field = line.substr(0, line.find(','));
      line.remove_prefix(field.size());
    }
    if (line.empty()) return true;
    line.remove_prefix(1);
  }
}

}  // namespace petrel
