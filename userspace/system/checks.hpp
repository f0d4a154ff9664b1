// SPDX-License-Identifier: MIT
// The checks of `petrel check --system`: what this host is, held against what petrel needs of it.
//
// Pure: facts come in (facts.hpp), checks go out. docs/check.md says what each means.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "config/config.hpp"
#include "system/facts.hpp"

namespace petrel {

enum class CheckState : std::uint8_t {
  kGood,
  kDegraded,  // petrel runs, and does less or costs more
  kFatal,     // petrel cannot start, or not on that interface
};

std::string_view to_string(CheckState state);

struct Check {
  std::string id;  // "interface.mtu": of the kind of check, stable
  CheckState state = CheckState::kGood;
  std::string subject;      // the interface, service or backend; "": the host
  std::string found;        // what was seen
  std::string consequence;  // what follows from it; "": nothing to say
  std::string command;      // mends it, run as root; "": no command does
  bool conflict = false;    // fatal because of another's program
};

// In the order of the subjects: host, interfaces, services. `config_path` goes into commands.
std::vector<Check> judge(const Config& config, const std::string& config_path,
                         const SystemFacts& facts);

// kGood; kWarnings; kMissing; kConflict when nothing but another's program is in the way.
ExitCode exit_code(const std::vector<Check>& checks);

}  // namespace petrel
