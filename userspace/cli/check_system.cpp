// SPDX-License-Identifier: MIT
#include "cli/check_system.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "cli/verbs.hpp"
#include "system/checks.hpp"
#include "system/probe.hpp"
#include "system/table.hpp"

namespace petrel::cli {
namespace {

bool wants_colour() {
  const char* no_colour = std::getenv("NO_COLOR");
  return ::isatty(STDOUT_FILENO) != 0 && (no_colour == nullptr || *no_colour == '\0');
}

}  // namespace

int run_check_system(const std::string& config_path, bool as_json) {
  Config config;
  if (config_path != kDefaultConfig || std::filesystem::exists(config_path)) {
    const ConfigResult loaded = load_config(config_path);
    if (!loaded) return fail(loaded.error().error());
    config = *loaded;
  } else {
    std::cerr << "petrel: no " << config_path
              << ": interfaces and services are left out (-c CONFIG)\n";
  }
  const auto facts = gather(config);
  if (!facts) return fail(facts.error());
  const std::vector<Check> checks = judge(config, config_path, *facts);
  if (as_json) {
    std::cout << check_json(checks) << '\n';
  } else {
    std::cout << check_table(checks, wants_colour());
  }
  return static_cast<int>(exit_code(checks));
}

}  // namespace petrel::cli
