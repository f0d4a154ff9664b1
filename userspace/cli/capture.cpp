// SPDX-License-Identifier: MIT
// petrel capture: connection records with their labels, from the running agent, as CSV.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iostream>
#include <memory>

#include "api/client.hpp"
#include "cli/verbs.hpp"

namespace petrel::cli {
namespace {

struct CaptureArguments {
  AgentAddress address;
  std::string output = "-";
  std::string run = "capture";
  double duration_s = 0;
};

std::atomic<bool> interrupted{false};  // set by the signal handler: that is all it may do

int run_capture(const CaptureArguments& arguments) {
  auto socket = arguments.address.resolve();
  if (!socket) return fail(socket.error());
  std::ofstream file;
  if (arguments.output != "-") {
    file.open(arguments.output, std::ios::binary | std::ios::trunc);
    if (!file) return fail(Error::from_errno(errno, "write " + arguments.output));
  }
  std::ostream& out = arguments.output == "-" ? std::cout : file;
  std::signal(SIGINT, [](int) { interrupted = true; });
  std::signal(SIGTERM, [](int) { interrupted = true; });

  const auto begun = std::chrono::steady_clock::now();
  std::uint64_t lines = 0;
  std::string partial;  // only whole lines are written: a capture may end anywhere
  const auto done = api_stream(
      *socket, "/v1/capture?run=" + arguments.run,
      [&](std::string_view piece) {
        partial.append(piece);
        const auto end = partial.rfind('\n');
        if (end == std::string::npos) return;
        lines += static_cast<std::uint64_t>(
            std::count(partial.begin(), partial.begin() + static_cast<std::ptrdiff_t>(end) + 1, '\n'));
        out.write(partial.data(), static_cast<std::streamsize>(end) + 1);
        partial.erase(0, end + 1);
      },
      [&] {
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begun;
        return !interrupted && out.good() &&
               (arguments.duration_s <= 0 || elapsed.count() < arguments.duration_s);
      });
  if (!done) return fail(done.error());
  out.flush();
  if (!out.good()) return fail(Error(ExitCode::kRuntime, "write " + arguments.output + " failed"));
  std::cerr << "captured " << (lines > 0 ? lines - 1 : 0) << " rows\n";
  return 0;
}

}  // namespace

void add_capture(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<CaptureArguments>();
  CLI::App* command = app.add_subcommand(
      "capture", "Write labelled connection records as CSV; each comes one retry window late");
  arguments->address.add_options(*command);
  command->add_option("-o,--output", arguments->output, "File, or - for stdout")
      ->capture_default_str();
  command->add_option("--run", arguments->run, "Name of this run, in each row")
      ->capture_default_str();
  command->add_option("--duration", arguments->duration_s, "Seconds; without it until SIGINT")
      ->check(CLI::PositiveNumber);
  command->callback(
      [arguments, &action] { action = [arguments] { return run_capture(*arguments); }; });
}

}  // namespace petrel::cli
