// SPDX-License-Identifier: MIT
// Reads the fields of one TOML table into typed variables and notes what is wrong. Internal to
// config/.
//
// A field that is wrong keeps its default and adds one problem; reading goes on, so that all
// problems come out in one go.
#pragma once

#include <toml++/toml.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.hpp"

namespace petrel {

class ProblemList {
 public:
  explicit ProblemList(std::string_view file) : file_(file) {}

  void add(const toml::source_region& where, std::string field, std::string expected,
           std::string found);
  void add_node(const toml::node& node, std::string field, std::string expected);

  bool empty() const { return list_.empty(); }
  ConfigProblems take();  // in the file's order

 private:
  std::string file_;
  std::vector<ConfigProblem> list_;
};

// "\"text\"", "5", "a table": what a file holds at a place.
std::string describe(const toml::node& node);

enum class Presence { kOptional, kRequired };

// What a string must look like.
struct TextRule {
  const char* expected;
  bool (*holds)(std::string_view);
};

template <class T>
using Choices = std::initializer_list<std::pair<std::string_view, T>>;

class TableReader {
 public:
  // `path` is put before each field: "" or "service[0]". All three outlive the reader.
  TableReader(const toml::table& table, std::string path, ProblemList& problems)
      : table_(table), path_(std::move(path)), problems_(problems) {}

  // Each returns whether the field was there and right.
  bool text(std::string_view key, std::string& value, const TextRule& rule,
            Presence presence = Presence::kOptional);
  bool integer(std::string_view key, std::int64_t least, std::int64_t most, std::int64_t& value,
               Presence presence = Presence::kOptional);
  bool number(std::string_view key, double least, double most, double& value);
  bool boolean(std::string_view key, bool& value);

  template <class Unsigned>
  bool whole(std::string_view key, std::int64_t least, std::int64_t most, Unsigned& value,
             Presence presence = Presence::kOptional) {
    std::int64_t wide = 0;
    if (!integer(key, least, most, wide, presence)) return false;
    value = static_cast<Unsigned>(wide);
    return true;
  }

  template <class T>
  bool choice(std::string_view key, Choices<T> choices, T& value) {
    const toml::node* node = find(key, Presence::kOptional, "");
    if (node == nullptr) return false;
    std::string expected;
    for (const auto& [name, chosen] : choices) {
      if (node->value_exact<std::string_view>() == name) {
        value = chosen;
        return true;
      }
      expected += (expected.empty() ? "\"" : " or \"") + std::string(name) + "\"";
    }
    problems_.add_node(*node, field(key), expected);
    return false;
  }

  // Null where absent; where it is no table (or not required to be there), a problem.
  const toml::table* table(std::string_view key, Presence presence);
  // [[key]]: at least one; otherwise a problem and none.
  std::vector<const toml::table*> tables(std::string_view key);

  // The node of a key, marked as known; null where it is absent (a problem if it is required).
  const toml::node* find(std::string_view key, Presence presence, std::string expected);

  // Once all known keys were asked for: what is left is unknown.
  void report_unknown() const;

  bool has(std::string_view key) const { return table_.contains(key); }
  std::string field(std::string_view key) const;
  const toml::table& source() const { return table_; }
  ProblemList& problems() const { return problems_; }

 private:
  std::string header(std::string_view key) const;

  const toml::table& table_;
  std::string path_;
  ProblemList& problems_;
  std::vector<std::string> known_;
};

}  // namespace petrel
