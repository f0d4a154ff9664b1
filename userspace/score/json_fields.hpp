// SPDX-License-Identifier: MIT
// Fields: reads a JSON object's members strictly, and keeps the first thing that was wrong.
//
// After an error every getter returns a harmless value, so that a reader is written without a
// branch for each field and asks for the error once, at its end. Models and requests are read by
// it.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/input_problem.hpp"

namespace petrel {

class Fields {
 public:
  // `error` is shared by the readers of one document: the first one wins.
  Fields(const boost::json::value& value, std::string path, std::optional<InputProblem>& error);

  double number(std::string_view name, double least, double most);
  int64_t integer(std::string_view name, int64_t least, int64_t most);
  bool flag(std::string_view name);
  std::string text(std::string_view name, size_t longest);
  std::vector<std::string> texts(std::string_view name, size_t most, size_t longest);
  const boost::json::array& array(std::string_view name, size_t size);
  const boost::json::value& any(std::string_view name);
  bool has(std::string_view name) const;

  // Any member that was not asked for is an error: it may be a misspelt one.
  void refuse_others();

  // The field is "<path><name>".
  void fail(std::string_view name, const std::string& expected, const std::string& found);
  void fail(std::string_view name, const std::string& expected, const boost::json::value& found);

 private:
  const boost::json::value* find(std::string_view name, const std::string& expected);

  const boost::json::object* object_ = nullptr;
  std::string path_;
  std::optional<InputProblem>& error_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace petrel
