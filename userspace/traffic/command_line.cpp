// SPDX-License-Identifier: MIT
#include "traffic/command_line.hpp"

#include <charconv>
#include <iomanip>
#include <sstream>

namespace petrel::traffic {

namespace {

constexpr int kShownDigits = 10;  // a million is 1000000, not 1e+06

template <class T>
Result<T> parse_number(std::string_view text, const char* kind, T least, T most) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  // Written so that NaN is outside as well.
  if (whole && value >= least && value <= most) return value;
  std::ostringstream why;
  why << std::setprecision(kShownDigits) << "expected " << kind << " from " << least << " to "
      << most << ", found '" << text << "'";
  return Error(ExitCode::kUsage, why.str());
}

}  // namespace

CLI::Option* add_number(CLI::App& app, const std::string& name, double& target, double least,
                        double most, const std::string& help) {
  std::ostringstream shown;
  shown << std::setprecision(kShownDigits);
  shown << target;
  return add_parsed(
             app, name, false,
             [=](const std::string& text) { return parse_number(text, "a number", least, most); },
             [&target](double value) { target = value; }, help)
      ->default_str(shown.str())
      ->type_name("NUMBER");
}

CLI::Option* add_count(CLI::App& app, const std::string& name, std::uint64_t& target,
                       std::uint64_t least, std::uint64_t most, const std::string& help) {
  return add_parsed(
             app, name, false,
             [=](const std::string& text) {
               return parse_number(text, "a whole number", least, most);
             },
             [&target](std::uint64_t value) { target = value; }, help)
      ->default_str(std::to_string(target))
      ->type_name("COUNT");
}

}  // namespace petrel::traffic
