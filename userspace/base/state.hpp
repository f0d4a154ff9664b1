// SPDX-License-Identifier: MIT
// State: what an object remembers as named lines of text, and back, to the last bit.
//
// An object lists its fields once, in a template that takes either side:
//   template <class Fields> void archive(Fields& fields) { fields("risk", risk_); }
// A line is "name=value name=value"; values are integers, doubles in the shortest form that reads
// back as the same bits, or words without spaces. A loader keeps the first thing that was wrong and
// leaves fields that it cannot read as they were.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace petrel {

template <class T>
concept StateNumber = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;

class FieldsOut {
 public:
  static constexpr bool kLoads = false;

  template <StateNumber T>
  void operator()(std::string_view name, const T& value) {
    char digits[32];
    const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
    add(name, std::string_view(digits, static_cast<std::size_t>(end - digits)));
  }
  void operator()(std::string_view name, bool value) { add(name, value ? "1" : "0"); }
  void operator()(std::string_view name, const std::string& word) { add(name, word); }
  template <class Enum>
    requires std::is_enum_v<Enum>
  void operator()(std::string_view name, Enum value) {
    (*this)(name, static_cast<std::int64_t>(value));
  }

  std::string take() { return std::move(text_); }

 private:
  void add(std::string_view name, std::string_view value) {
    if (!text_.empty()) text_ += ' ';
    text_.append(name).append("=").append(value);
  }
  std::string text_;
};

class FieldsIn {
 public:
  static constexpr bool kLoads = true;

  FieldsIn(std::string_view line_name, std::string_view text, std::optional<std::string>& error);

  template <StateNumber T>
  void operator()(std::string_view name, T& value) {
    const std::string_view text = find(name);
    T read{};
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), read);
    if (parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size() && !text.empty()) {
      value = read;
    } else {
      fail(name, text);
    }
  }
  void operator()(std::string_view name, bool& value) {
    std::uint8_t read = value ? 1 : 0;
    (*this)(name, read);
    value = read != 0;
  }
  void operator()(std::string_view name, std::string& word) { word = find(name); }
  template <class Enum>
    requires std::is_enum_v<Enum>
  void operator()(std::string_view name, Enum& value) {
    auto read = static_cast<std::int64_t>(value);
    (*this)(name, read);
    value = static_cast<Enum>(read);
  }

 private:
  std::string_view find(std::string_view name) const;
  void fail(std::string_view name, std::string_view found);

  std::string line_name_;
  std::map<std::string_view, std::string_view> fields_;
  std::optional<std::string>& error_;
};

// Lines by name, in the order in which they were saved.
class StateOut {
 public:
  template <class Archive>
  void line(std::string name, Archive&& archive) {
    FieldsOut fields;
    archive(fields);
    lines_.emplace_back(std::move(name), fields.take());
  }
  void text(std::string name, const std::string& value) {
    lines_.emplace_back(std::move(name), value);
  }
  const std::vector<std::pair<std::string, std::string>>& lines() const { return lines_; }

 private:
  std::vector<std::pair<std::string, std::string>> lines_;
};

class StateIn {
 public:
  explicit StateIn(std::map<std::string, std::string> lines) : lines_(std::move(lines)) {}

  template <class Archive>
  void line(const std::string& name, Archive&& archive) {
    const std::string* found = find(name);
    if (found == nullptr) return;
    FieldsIn fields(name, *found, error_);
    archive(fields);
  }
  void text(const std::string& name, std::string& value) {
    if (const std::string* found = find(name)) value = *found;
  }
  void fail(const std::string& what) {
    if (!error_) error_ = what;
  }
  const std::optional<std::string>& error() const { return error_; }

 private:
  const std::string* find(const std::string& name);

  std::map<std::string, std::string> lines_;
  std::optional<std::string> error_;
};

// "1,2,3" and back; what is no number ends the list.
std::string join_ids(const std::vector<std::uint32_t>& ids);
std::vector<std::uint32_t> split_ids(std::string_view text);

}  // namespace petrel
