// SPDX-License-Identifier: MIT
#include "config/reader.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <numeric>
#include <sstream>
#include <tuple>

namespace petrel {
namespace {

std::string shown(double number) {
  std::ostringstream text;
  text << std::setprecision(15) << number;  // 1000000, not 1e+06; 0.1, not its last binary digits
  return text.str();
}

// Levenshtein's distance: insertions, deletions and replacements that make one of the other.
std::size_t edits(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= from.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= to.size(); ++j) {
      const std::size_t replaced = diagonal + (from[i - 1] == to[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

// A third of the letters may be wrong; beyond that a suggestion is a guess.
std::string suggestion(std::string_view key, const std::vector<std::string>& known) {
  std::size_t fewest = std::max<std::size_t>(2, key.size() / 3) + 1;
  std::string best;
  for (const std::string& candidate : known) {
    const std::size_t distance = edits(key, candidate);
    if (distance >= fewest || distance >= candidate.size()) continue;
    fewest = distance;
    best = candidate;
  }
  return best.empty() ? "" : "; did you mean \"" + best + "\"?";
}

}  // namespace

void ProblemList::add(const toml::source_region& where, std::string field, std::string expected,
                      std::string found) {
  list_.push_back({file_, where.begin.line, where.begin.column, std::move(field),
                   std::move(expected), std::move(found)});
}

void ProblemList::add_node(const toml::node& node, std::string field, std::string expected) {
  add(node.source(), std::move(field), std::move(expected), describe(node));
}

ConfigProblems ProblemList::take() {
  std::stable_sort(list_.begin(), list_.end(), [](const auto& left, const auto& right) {
    return std::tie(left.line, left.column) < std::tie(right.line, right.column);
  });
  return {std::move(list_)};
}

std::string describe(const toml::node& node) {
  if (const auto* text = node.as_string()) return "\"" + text->get() + "\"";
  if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
  if (const auto* number = node.as_floating_point()) return shown(number->get());
  if (const auto* boolean = node.as_boolean()) return boolean->get() ? "true" : "false";
  if (node.is_table()) return "a table";
  if (const auto* array = node.as_array()) return array->empty() ? "an empty array" : "an array";
  return "a date or time";
}

std::string TableReader::field(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

// Fields are counted, headers are not: [[service.backend]], not [[service[0].backend]].
std::string TableReader::header(std::string_view key) const {
  std::string text;
  bool counting = false;
  for (const char character : field(key)) {
    if (character == '[') counting = true;
    if (!counting) text += character;
    if (character == ']') counting = false;
  }
  return text;
}

const toml::node* TableReader::find(std::string_view key, Presence presence, std::string expected) {
  known_.emplace_back(key);
  const toml::node* node = table_.get(key);
  if (node == nullptr && presence == Presence::kRequired) {
    problems_.add(table_.source(), field(key), std::move(expected), "nothing");
  }
  return node;
}

bool TableReader::text(std::string_view key, std::string& value, const TextRule& rule,
                       Presence presence) {
  const toml::node* node = find(key, presence, rule.expected);
  if (node == nullptr) return false;
  const auto* text = node->as_string();
  if (text == nullptr || !rule.holds(text->get())) {
    problems_.add_node(*node, field(key), rule.expected);
    return false;
  }
  value = text->get();
  return true;
}

bool TableReader::integer(std::string_view key, std::int64_t least, std::int64_t most,
                          std::int64_t& value, Presence presence) {
  const std::string expected =
      "an integer from " + std::to_string(least) + " to " + std::to_string(most);
  const toml::node* node = find(key, presence, expected);
  if (node == nullptr) return false;
  const auto* integer = node->as_integer();
  if (integer == nullptr || integer->get() < least || integer->get() > most) {
    problems_.add_node(*node, field(key), expected);
    return false;
  }
  value = integer->get();
  return true;
}

bool TableReader::number(std::string_view key, double least, double most, double& value) {
  const toml::node* node = find(key, Presence::kOptional, "");
  if (node == nullptr) return false;
  // An integer is a number too; the comparison also refuses TOML's nan.
  const double found = node->is_number() ? node->value<double>().value_or(NAN) : NAN;
  if (!(found >= least && found <= most)) {
    problems_.add_node(*node, field(key), "a number from " + shown(least) + " to " + shown(most));
    return false;
  }
  value = found;
  return true;
}

bool TableReader::boolean(std::string_view key, bool& value) {
  const toml::node* node = find(key, Presence::kOptional, "");
  if (node == nullptr) return false;
  const auto* boolean = node->as_boolean();
  if (boolean == nullptr) {
    problems_.add_node(*node, field(key), "true or false");
    return false;
  }
  value = boolean->get();
  return true;
}

const toml::table* TableReader::table(std::string_view key, Presence presence) {
  const std::string expected = "a table [" + header(key) + "]";
  const toml::node* node = find(key, presence, expected);
  if (node == nullptr) return nullptr;
  if (!node->is_table()) problems_.add_node(*node, field(key), expected);
  return node->as_table();
}

std::vector<const toml::table*> TableReader::tables(std::string_view key) {
  const std::string headed = "[[" + header(key) + "]]";
  const std::string expected = "at least one table " + headed;
  const toml::node* node = find(key, Presence::kRequired, expected);
  std::vector<const toml::table*> found;
  if (node == nullptr) return found;
  const toml::array* array = node->as_array();
  if (array == nullptr || array->empty()) {
    problems_.add_node(*node, field(key), expected);
    return found;
  }
  for (const toml::node& element : *array) {
    if (!element.is_table()) {
      problems_.add_node(element, field(key) + "[" + std::to_string(found.size()) + "]",
                         "a table " + headed);
    }
    found.push_back(element.as_table());  // null keeps the counting right
  }
  return found;
}

void TableReader::report_unknown() const {
  for (const auto& [key, node] : table_) {
    if (std::find(known_.begin(), known_.end(), key.str()) != known_.end()) continue;
    problems_.add(key.source(), field(key.str()), "no such key",
                  "\"" + std::string(key.str()) + "\"" + suggestion(key.str(), known_));
  }
}

}  // namespace petrel
