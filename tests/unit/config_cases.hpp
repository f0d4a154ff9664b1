// SPDX-License-Identifier: MIT
// A small configuration to be spoilt line by line, and the shape of a spoilt one's test. Shared by
// the sources of config_test.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace petrel {

// Line 1 to 12; tests replace parts of it.
inline const std::string kSmall =
    "[agent]\n"                   // 1
    "interfaces = [\"eth0\"]\n"   // 2
    "\n"                          // 3
    "[[service]]\n"               // 4
    "name = \"web\"\n"            // 5
    "address = \"10.1.100.1\"\n"  // 6
    "port = 80\n"                 // 7
    "\n"                          // 8
    "[[service.backend]]\n"       // 9
    "name = \"b1\"\n"             // 10
    "address = \"10.2.1.2\"\n"    // 11
    "port = 8080\n";              // 12

inline std::string with(const std::string& old_text, const std::string& new_text) {
  std::string text = kSmall;
  text.replace(text.find(old_text), old_text.size(), new_text);
  return text;
}

inline std::string backend(const std::string& name, const std::string& address,
                           const std::string& port) {
  return "[[service.backend]]\nname = \"" + name + "\"\naddress = \"" + address +
         "\"\nport = " + port + "\n";
}

inline std::vector<ConfigProblem> problems_of(const std::string& text) {
  const ConfigResult result = load_config_text(text, "test.toml");
  return result ? std::vector<ConfigProblem>{} : result.error().list;
}

struct BadCase {
  const char* name;
  std::string text;
  std::uint32_t line;
  const char* field;
  const char* found;  // the beginning of it
};

inline void PrintTo(const BadCase& bad, std::ostream* out) {
  *out << bad.name;
}

// Its test is in config_test.cpp; tables of cases are where they belong.
class BadConfig : public testing::TestWithParam<BadCase> {};

inline std::string agent_line(const std::string& line) {
  return with("[agent]\n", "[agent]\n" + line + "\n");
}
inline std::string service_line(const std::string& line) {
  return with("[[service]]\n", "[[service]]\n" + line + "\n");
}
inline std::string backend_line(const std::string& line) {
  return kSmall + line + "\n";
}
inline std::string control_line(const std::string& line) {
  return with("[[service]]", "[control]\n" + line + "\n[[service]]");
}

}  // namespace petrel
