// SPDX-License-Identifier: MIT
#include "system/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>

namespace petrel {
namespace {

struct Group {
  CheckState state;
  const char* title;
  const char* colour;  // SGR
};

constexpr Group kGroups[] = {
    {CheckState::kFatal, "FATAL", "\033[31m"},
    {CheckState::kDegraded, "DEGRADED", "\033[33m"},
    {CheckState::kGood, "GOOD", "\033[32m"},
};

std::size_t count(const std::vector<Check>& checks, CheckState state) {
  return static_cast<std::size_t>(std::count_if(
      checks.begin(), checks.end(), [&](const Check& check) { return check.state == state; }));
}

}  // namespace

std::string check_table(const std::vector<Check>& checks, bool colour) {
  std::size_t id_width = 0;
  std::size_t subject_width = 1;
  for (const Check& check : checks) {
    id_width = std::max(id_width, check.id.size());
    subject_width = std::max(subject_width, check.subject.size());
  }
  std::string text;
  for (const Group& group : kGroups) {
    if (count(checks, group.state) == 0) continue;
    text +=
        fmt::format("{}{}{}\n", colour ? group.colour : "", group.title, colour ? "\033[0m" : "");
    for (const Check& check : checks) {
      if (check.state != group.state) continue;
      text += fmt::format("  {:<{}}  {:<{}}  {}\n", check.id, id_width,
                          check.subject.empty() ? "-" : check.subject, subject_width, check.found);
      if (!check.consequence.empty()) text += "      -> " + check.consequence + "\n";
      if (!check.command.empty()) text += "      $ " + check.command + "\n";
    }
    text += "\n";
  }
  return text + fmt::format("{} fatal, {} degraded, {} good\n", count(checks, CheckState::kFatal),
                            count(checks, CheckState::kDegraded), count(checks, CheckState::kGood));
}

std::string check_json(const std::vector<Check>& checks) {
  namespace json = boost::json;
  const auto or_null = [](const std::string& text) {
    return text.empty() ? json::value(nullptr) : json::value(text);
  };
  json::array list;
  for (const Check& check : checks) {
    list.push_back({{"id", check.id},
                    {"state", to_string(check.state)},
                    {"subject", or_null(check.subject)},
                    {"found", check.found},
                    {"consequence", or_null(check.consequence)},
                    {"command", or_null(check.command)},
                    {"conflict", check.conflict}});
  }
  return json::serialize(json::object{{"schema", "petrel/check-system/v1"},
                                      {"good", count(checks, CheckState::kGood)},
                                      {"degraded", count(checks, CheckState::kDegraded)},
                                      {"fatal", count(checks, CheckState::kFatal)},
                                      {"exit_code", static_cast<int>(exit_code(checks))},
                                      {"checks", std::move(list)}});
}

}  // namespace petrel
