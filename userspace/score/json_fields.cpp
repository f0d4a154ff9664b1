// SPDX-License-Identifier: MIT
#include "score/json_fields.hpp"

#include <cmath>
#include <sstream>

namespace petrel {
namespace {

constexpr size_t kLongestQuote = 60;

std::string quote(const boost::json::value& value) {
  std::string text = boost::json::serialize(value);
  if (text.size() > kLongestQuote) text = text.substr(0, kLongestQuote) + "...";
  return text;
}

template <class Number>
std::string range(const char* what, Number least, Number most) {
  std::ostringstream out;
  out << what << " from " << least << " to " << most;
  return out.str();
}

}  // namespace

Fields::Fields(const boost::json::value& value, std::string path,
               std::optional<InputProblem>& error)
    : object_(value.if_object()), path_(std::move(path)), error_(error) {
  if (object_ == nullptr) fail("", "an object", value);
  if (!path_.empty()) path_ += ".";
}

const boost::json::value* Fields::find(std::string_view name, const std::string& expected) {
  asked_.emplace(name);
  if (object_ == nullptr) return nullptr;
  const boost::json::value* const found = object_->if_contains(name);
  if (found == nullptr) fail(name, expected, std::string("nothing"));
  return found;
}

double Fields::number(std::string_view name, double least, double most) {
  const std::string expected = range("a number", least, most);
  const boost::json::value* const found = find(name, expected);
  if (found == nullptr) return least;
  const double value = found->is_double()  ? found->get_double()
                       : found->is_int64() ? static_cast<double>(found->get_int64())
                                           : std::nan("");
  // Written so that a NaN is refused too.
  if (value >= least && value <= most) return value;
  fail(name, expected, *found);
  return least;
}

int64_t Fields::integer(std::string_view name, int64_t least, int64_t most) {
  const std::string expected = range("an integer", least, most);
  const boost::json::value* const found = find(name, expected);
  if (found == nullptr) return least;
  const int64_t* const value = found->if_int64();
  if (value != nullptr && *value >= least && *value <= most) return *value;
  fail(name, expected, *found);
  return least;
}

bool Fields::flag(std::string_view name) {
  const boost::json::value* const found = find(name, "true or false");
  if (found == nullptr) return false;
  if (found->is_bool()) return found->get_bool();
  fail(name, "true or false", *found);
  return false;
}

std::string Fields::text(std::string_view name, size_t longest) {
  const std::string expected = range<size_t>("a string of length", 1, longest);
  const boost::json::value* const found = find(name, expected);
  if (found == nullptr) return {};
  const boost::json::string* const value = found->if_string();
  if (value != nullptr && !value->empty() && value->size() <= longest) {
    return std::string(value->data(), value->size());
  }
  fail(name, expected, *found);
  return {};
}

std::vector<std::string> Fields::texts(std::string_view name, size_t most, size_t longest) {
  const std::string expected = range<size_t>("a list of strings, of length", 0, most);
  const boost::json::value* const found = find(name, expected);
  if (found == nullptr) return {};
  const boost::json::array* const list = found->if_array();
  if (list == nullptr || list->size() > most) {
    fail(name, expected, *found);
    return {};
  }
  std::vector<std::string> result;
  for (const boost::json::value& each : *list) {
    const boost::json::string* const value = each.if_string();
    if (value == nullptr || value->empty() || value->size() > longest) {
      fail(name, range<size_t>("strings of length", 1, longest), each);
      return {};
    }
    result.emplace_back(value->data(), value->size());
  }
  return result;
}

const boost::json::array& Fields::array(std::string_view name, size_t size) {
  static const boost::json::array kNone;
  const std::string expected = "a list of " + std::to_string(size);
  const boost::json::value* const found = find(name, expected);
  if (found == nullptr) return kNone;
  const boost::json::array* const list = found->if_array();
  if (list != nullptr && list->size() == size) return *list;
  fail(name, expected,
       list != nullptr ? "a list of " + std::to_string(list->size()) : quote(*found));
  return kNone;
}

const boost::json::value& Fields::any(std::string_view name) {
  static const boost::json::value kNone;
  const boost::json::value* const found = find(name, "a value");
  return found != nullptr ? *found : kNone;
}

bool Fields::has(std::string_view name) const {
  return object_ != nullptr && object_->contains(name);
}

void Fields::refuse_others() {
  if (object_ == nullptr) return;
  for (const auto& member : *object_) {
    const std::string_view name(member.key().data(), member.key().size());
    if (!asked_.contains(name)) fail(name, "no such field", member.value());
  }
}

void Fields::fail(std::string_view name, const std::string& expected, const std::string& found) {
  if (error_) return;
  error_ = InputProblem{path_ + std::string(name), expected, found};
}

void Fields::fail(std::string_view name, const std::string& expected,
                  const boost::json::value& found) {
  fail(name, expected, quote(found));
}

}  // namespace petrel
