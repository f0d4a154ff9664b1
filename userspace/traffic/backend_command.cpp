// SPDX-License-Identifier: MIT
// petrel-traffic backend: runs a Backend until SIGINT or SIGTERM.
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <iostream>
#include <memory>

#include "traffic/backend.hpp"
#include "traffic/command_line.hpp"
#include "traffic/control_server.hpp"
#include "traffic/endpoint.hpp"
#include "traffic/process_limits.hpp"

namespace petrel::traffic {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

struct Arguments {
  BackendOptions backend;
  std::uint64_t concurrency = 16;
  std::uint64_t queue = 1024;
  std::uint64_t body_bytes = 64;
  double added_delay_ms = 0;
  std::string control_path;
};

Result<json::object> handle(Backend& backend, const json::object& request) {
  const json::value* command = request.if_contains("command");
  if (command == nullptr || !command->is_string()) {
    return Error(ExitCode::kUsage, "command: expected fault or stats, found none");
  }
  const json::string& name = command->get_string();
  if (name == "stats") return backend.stats();
  if (name != "fault") {
    return Error(ExitCode::kUsage,
                 "command: expected fault or stats, found '" + std::string(name.c_str()) + "'");
  }
  const auto fault = parse_fault(request);
  if (!fault) return fault.error();
  if (auto applied = backend.apply(*fault); !applied) return applied.error();
  return json::object{{"fault", to_json(*fault)}};
}

Result<> run_backend(const Arguments& arguments) {
  raise_open_files_limit();
  asio::io_context io(1);
  Backend backend(io, arguments.backend);
  ControlServer control(io, arguments.control_path, [&backend](const json::object& request) {
    return handle(backend, request);
  });
  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](const boost::system::error_code& ec, int) {
    if (ec) return;
    control.stop();
    backend.stop();
  });
  if (auto started = backend.start(); !started) return started.error().within("start backend");
  if (!arguments.control_path.empty()) {
    if (auto started = control.start(); !started) return started.error().within("start backend");
  }
  for (const auto& endpoint : arguments.backend.listen) {
    std::cerr << "backend " << arguments.backend.name << " listens on " << to_text(endpoint)
              << "\n";
  }
  io.run();
  return {};
}

}  // namespace

void add_backend_command(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("backend", "Serve HTTP/1.1, with faults on demand");
  auto arguments = std::make_shared<Arguments>();
  BackendOptions& backend = arguments->backend;
  command.add_option("--name", backend.name, "Sent back in each answer's X-Backend header")
      ->required();
  add_parsed(
      command, "--listen", true, parse_endpoint,
      [&backend](const asio::ip::tcp::endpoint& endpoint) { backend.listen.push_back(endpoint); },
      "Address and port to serve, repeatable")
      ->required()
      ->type_name("ADDRESS:PORT");
  command.add_option("--control", arguments->control_path, "Unix socket for faults and statistics")
      ->type_name("PATH");
  add_number(command, "--service-time-ms", backend.service_time.mean_ms, 0, 3.6e6,
             "Mean time of service");
  add_parsed(
      command, "--distribution", false, parse_distribution,
      [&backend](Distribution value) { backend.service_time.distribution = value; },
      "Of the service time: exponential, lognormal or constant")
      ->default_str("exponential")
      ->type_name("NAME");
  add_number(command, "--sigma", backend.service_time.sigma, 0, 10,
             "Lognormal: standard deviation of the logarithm");
  add_count(command, "--concurrency", arguments->concurrency, 1, 1'000'000,
            "Requests served at the same time");
  add_count(command, "--queue", arguments->queue, 0, 10'000'000,
            "Requests that may wait; further ones are answered 503");
  add_count(command, "--body-bytes", arguments->body_bytes, 0, 16 << 20, "Length of each answer");
  add_number(command, "--added-delay-ms", arguments->added_delay_ms, 0, 60'000,
             "Added to every answer, as of a backend in another zone");
  add_count(command, "--seed", backend.seed, 0, kAnyCount,
            "Of the random numbers, together with the name");
  command.callback([arguments, &chosen] {
    arguments->backend.concurrency = arguments->concurrency;
    arguments->backend.queue = arguments->queue;
    arguments->backend.body_bytes = arguments->body_bytes;
    arguments->backend.added_delay =
        std::chrono::nanoseconds(static_cast<std::int64_t>(arguments->added_delay_ms * 1e6));
    chosen = [arguments] { return run_backend(*arguments); };
  });
}

}  // namespace petrel::traffic
