// SPDX-License-Identifier: MIT
// What the subcommands share: options whose errors say which option, what it expects and what it
// found, and the commands themselves.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>

#include "base/error.hpp"

namespace petrel::traffic {

// Set by whichever subcommand was chosen, called after parsing.
using Command = std::function<Result<>()>;

void add_backend_command(CLI::App& app, Command& chosen);
void add_client_command(CLI::App& app, Command& chosen);
void add_fault_command(CLI::App& app, Command& chosen);
void add_stats_command(CLI::App& app, Command& chosen);

// An option that takes a number in [least, most]; `target` holds the default and is set on parsing.
CLI::Option* add_number(CLI::App& app, const std::string& name, double& target, double least,
                        double most, const std::string& help);
CLI::Option* add_count(CLI::App& app, const std::string& name, std::uint64_t& target,
                       std::uint64_t least, std::uint64_t most, const std::string& help);

inline constexpr std::uint64_t kAnyCount = std::numeric_limits<std::uint64_t>::max();

// An option parsed by parse(text) -> Result<T>, handed to store(T); may be given several times if
// `repeats` says so.
template <class Parse, class Store>
CLI::Option* add_parsed(CLI::App& app, const std::string& name, bool repeats, Parse parse,
                        Store store, const std::string& help) {
  CLI::Option* option = app.add_option_function<std::vector<std::string>>(
      name,
      [name, parse, store](const std::vector<std::string>& texts) {
        for (const std::string& text : texts) {
          auto value = parse(text);
          if (!value) throw CLI::ValidationError(name, value.error().message());
          store(*value);
        }
      },
      help);
  // One value each time it is given: without that, it would swallow what follows.
  option->expected(1)->type_size(1)->allow_extra_args(false);
  if (repeats) option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  return option;
}

}  // namespace petrel::traffic
