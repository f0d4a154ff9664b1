// SPDX-License-Identifier: MIT
// petrel-traffic: the lab's traffic. Backends that fail on demand, and clients that retry.
#include <exception>
#include <iostream>
#include <string>

#include "traffic/command_line.hpp"

namespace {

using petrel::ExitCode;

int fail(const petrel::Error& error) {
  std::cerr << "petrel-traffic: " << error.message() << "\n";
  return static_cast<int>(error.kind());
}

int fail_usage(const std::string& why) {
  return fail({ExitCode::kUsage, why + " (see --help)"});
}

int run(int argc, char** argv) {
  CLI::App app("Traffic for petrel's lab: backends that fail on demand, clients that retry");
  app.name("petrel-traffic");
  app.require_subcommand(1);
  // The values that apply, in every subcommand's help.
  app.option_defaults()->always_capture_default();
  petrel::traffic::Command chosen;
  petrel::traffic::add_backend_command(app, chosen);
  petrel::traffic::add_client_command(app, chosen);
  petrel::traffic::add_fault_command(app, chosen);
  petrel::traffic::add_stats_command(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::RequiredError& error) {
    // CLI11 misses the subcommand before it looks at the word that stands in its place.
    const bool unknown = app.get_subcommands().empty() && !app.remaining().empty();
    if (!unknown) return fail_usage(error.what());
    return fail_usage("expected backend, client, fault or stats, found '" +
                      app.remaining().front() + "'");
  } catch (const CLI::ParseError& error) {
    return fail_usage(error.what());
  }
  const auto result = chosen();
  return result ? static_cast<int>(ExitCode::kGood) : fail(result.error());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    return fail({ExitCode::kRuntime, std::string("unexpected: ") + error.what()});
  }
}
