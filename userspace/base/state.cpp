// SPDX-License-Identifier: MIT
#include "base/state.hpp"

namespace petrel {

FieldsIn::FieldsIn(std::string_view line_name, std::string_view text,
                   std::optional<std::string>& error)
    : line_name_(line_name), error_(error) {
  while (!text.empty()) {
    const std::string_view field = text.substr(0, text.find(' '));
    const auto equals = field.find('=');
    if (equals != std::string_view::npos) {
      fields_[field.substr(0, equals)] = field.substr(equals + 1);
    }
    text.remove_prefix(std::min(text.size(), field.size() + 1));
  }
}

std::string_view FieldsIn::find(std::string_view name) const {
  const auto found = fields_.find(name);
  return found == fields_.end() ? std::string_view() : found->second;
}

void FieldsIn::fail(std::string_view name, std::string_view found) {
  if (error_) return;
  error_ = line_name_ + ": " + std::string(name) + ": expected a number, found \"" +
           std::string(found.substr(0, 40)) + "\"";
}

const std::string* StateIn::find(const std::string& name) {
  const auto found = lines_.find(name);
  if (found != lines_.end()) return &found->second;
  fail(name + ": expected a line of that name, found none");
  return nullptr;
}

std::string join_ids(const std::vector<std::uint32_t>& ids) {
  std::string text;
  for (const std::uint32_t id : ids) {
    if (!text.empty()) text += ',';
    text += std::to_string(id);
  }
  return text;
}

std::vector<std::uint32_t> split_ids(std::string_view text) {
  std::vector<std::uint32_t> ids;
  while (!text.empty()) {
    std::uint32_t id = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (code != std::errc{}) break;
    ids.push_back(id);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (text.empty() || text.front() != ',') break;
    text.remove_prefix(1);
  }
  return ids;
}

}  // namespace petrel
