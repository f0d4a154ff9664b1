// SPDX-License-Identifier: MIT
#include "predict/csv_rows.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include "bpf/fixed_point.h"

namespace petrel {
namespace {

constexpr std::string_view kFeaturePrefix = "feature:";
constexpr std::string_view kQ16Expected = "an integer from -2147483648 to 2147483647 (Q16)";
constexpr std::size_t kLongestQuote = 60;

std::string quote(std::string_view text) {
  return '"' + std::string(text.substr(0, kLongestQuote)) + '"';
}

// Takes the next field off a line. A quoted one is taken apart into `unquoted`. False: a quote is
// not closed, or is followed by text.
class FieldCursor {
 public:
  FieldCursor(std::string_view line, std::string& unquoted) : rest_(line), unquoted_(unquoted) {}

  bool more() const { return more_; }

  bool next(std::string_view& field) {
    if (rest_.starts_with('"')) return quoted(field);
    // By hand: fields are a few bytes, too few for a call.
    std::size_t length = 0;
    while (length < rest_.size() && rest_[length] != ',') length++;
    take(field, length);
    return true;
  }

 private:
  void take(std::string_view& field, std::size_t length) {
    field = rest_.substr(0, length);
    more_ = field.size() < rest_.size();
    rest_.remove_prefix(field.size() + (more_ ? 1 : 0));
  }

  bool quoted(std::string_view& field) {
    unquoted_.clear();
    std::size_t at = 1;
    for (;;) {
      const std::size_t end = rest_.find('"', at);
      if (end == std::string_view::npos) return false;
      unquoted_.append(rest_, at, end - at);
      at = end + 1;
      if (at == rest_.size() || rest_[at] == ',') break;
      if (rest_[at] != '"') return false;
      unquoted_ += '"';
      at++;
    }
    take(field, at);
    field = unquoted_;
    return true;
  }

  std::string_view rest_;
  std::string& unquoted_;
  bool more_ = true;
};

// "0.123456": the nearest millionth.
void append_probability(std::uint32_t probability_q16, std::string& out) {
  constexpr std::uint64_t kMillion = 1'000'000;
  std::uint64_t millionths = (probability_q16 * kMillion + Q16_ONE / 2) / Q16_ONE;
  std::array<char, 8> text{};
  for (std::size_t i = text.size() - 1; i > 1; i--) {
    text[i] = static_cast<char>('0' + millionths % 10);
    millionths /= 10;
  }
  text[1] = '.';
  text[0] = static_cast<char>('0' + millionths);
  out.append(text.data(), text.size());
}

void append_names(std::uint64_t bits, std::string& out) {
  for (std::size_t i = 0; i < kFeatureCount && bits != 0; i++, bits >>= 1) {
    if ((bits & 1) == 0) continue;
    out += kFeatures[i].name;
    if (bits != 1) out += ';';
  }
}

InputProblem broken_quote(std::string_view field) {
  return {std::string(field), "a quoted field that is closed, then a comma", "none"};
}

}  // namespace

std::optional<InputProblem> CsvRows::open(std::string_view header, const CsvOptions& options,
                                          CsvRows& rows) {
  rows = CsvRows();
  rows.header_ = header;
  rows.alone_ = options.alone;
  FieldCursor cursor(header, rows.unquoted_);
  while (cursor.more()) {
    std::string_view name;
    if (!cursor.next(name)) return broken_quote("header");
    const auto same = [name](const Column& column) { return column.name == name; };
    if (std::any_of(rows.columns_.begin(), rows.columns_.end(), same)) {
      return InputProblem{std::string(name), "each column once", "a second one"};
    }
    rows.columns_.push_back({std::string(name)});
  }
  return rows.classify(options);
}

std::optional<InputProblem> CsvRows::classify(const CsvOptions& options) {
  const auto has = [this](std::string_view name) {
    return std::any_of(columns_.begin(), columns_.end(),
                       [name](const Column& column) { return column.name == name; });
  };
  has_features_ = std::all_of(kFeatures.begin(), kFeatures.end(),
                              [&has](const FeatureInfo& each) { return has(each.name); });
  for (Column& column : columns_) {
    if (has_features_) {
      if (const auto feature = find_feature(column.name)) {
        column = {column.name, Kind::kFeatureQ16, *feature};
      }
      continue;
    }
    const std::string_view name = column.name;
    if (std::find(options.carried.begin(), options.carried.end(), name) != options.carried.end()) {
      continue;
    }
    if (const auto quantity = find_quantity(name)) {
      column = {column.name, Kind::kQuantity, *quantity};
      given_columns_ |= std::uint64_t{1} << *quantity;
      continue;
    }
    const auto feature = name.starts_with(kFeaturePrefix)
                             ? find_feature(name.substr(kFeaturePrefix.size()))
                             : std::nullopt;
    if (!feature) {
      return InputProblem{"header",
                          "columns that `petrel predict --help` lists, or that --carry names",
                          quote(name)};
    }
    column = {column.name, Kind::kFeature, *feature};
  }
  for (const std::string& name : options.carried) {
    if (!has(name)) return InputProblem{"header", "a column " + name + " to carry", "none"};
  }
  return std::nullopt;
}

std::string CsvRows::header() const {
  return (alone_ ? std::string() : header_ + ",") + "probability,outside";
}

std::optional<InputProblem> CsvRows::read_field(const Column& column, std::string_view field,
                                                Request& request) const {
  if (column.kind == Kind::kFeatureQ16) {
    std::int32_t value = 0;
    const char* const last = field.data() + field.size();
    const auto [end, code] = std::from_chars(field.data(), last, value);
    if (code != std::errc() || end != last) {
      return InputProblem{column.name, std::string(kQ16Expected), quote(field)};
    }
    request.set_feature(column.index, value);
    return std::nullopt;
  }
  if (field.empty()) return std::nullopt;
  if (column.kind == Kind::kFeature) {
    const auto value = read_feature(field);
    if (!value) return InputProblem{column.name, std::string(kFeatureExpected), quote(field)};
    request.set_feature(column.index, *value);
    return std::nullopt;
  }
  const Quantity& quantity = quantities()[column.index];
  const auto value = read_quantity(quantity, field);
  if (!value) return InputProblem{column.name, expected_of(quantity), quote(field)};
  request.set(column.index, *value);
  return std::nullopt;
}

std::optional<InputProblem> CsvRows::read(std::string_view line, Request& request) {
  request.clear();
  FieldCursor cursor(line, unquoted_);
  for (std::size_t i = 0; i < columns_.size(); i++) {
    const Column& column = columns_[i];
    std::string_view field;
    if (!cursor.more()) {
      return InputProblem{column.name, std::to_string(columns_.size()) + " fields",
                          std::to_string(i)};
    }
    if (!cursor.next(field)) return broken_quote(column.name);
    if (column.kind == Kind::kCarried) continue;
    if (auto problem = read_field(column, field, request)) return problem;
  }
  if (cursor.more()) {
    return InputProblem{"after the last column", std::to_string(columns_.size()) + " fields",
                        "more"};
  }
  return std::nullopt;
}

std::optional<InputProblem> CsvRows::append(Predictor& predictor, std::string_view line,
                                            std::string& out) {
  if (auto problem = read(line, request_)) return problem;
  Scored scored;
  if (has_features_) {
    scored = predictor.score(request_.features);
  } else if (auto problem = predictor.score(request_, scored)) {
    return problem;
  }
  if (!alone_) {
    out += line;
    out += ',';
  }
  append_probability(scored.probability_q16, out);
  out += ',';
  append_names(scored.outside, out);
  out += '\n';
  return std::nullopt;
}

}  // namespace petrel
