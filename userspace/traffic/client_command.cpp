// SPDX-License-Identifier: MIT
// petrel-traffic client: runs a LoadGenerator and says what came of it.
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <csignal>
#include <iostream>
#include <memory>

#include "traffic/client_options.hpp"
#include "traffic/command_line.hpp"
#include "traffic/endpoint.hpp"
#include "traffic/load_generator.hpp"
#include "traffic/process_limits.hpp"
#include "traffic/rethrow.hpp"

namespace petrel::traffic {

namespace asio = boost::asio;

namespace {

// Numbers as they come from the command line; options() turns them into units.
struct Arguments {
  ClientOptions client;
  double duration_s = 10;
  std::uint64_t timeout_ms = 1000;
  std::uint64_t connect_timeout_ms = 1000;
  std::uint64_t retry_delay_ms = 100;
  std::uint64_t retry_cap_ms = 5000;
  std::uint64_t max_attempts = 4;
  std::uint64_t max_outstanding = 20000;
  std::uint64_t poll_interval_ms = 1000;
  CLI::Option* connect_timeout = nullptr;
  CLI::Option* clients = nullptr;
};

// What no single option can check.
Result<ClientOptions> options_of(const Arguments& arguments) {
  using std::chrono::milliseconds;
  ClientOptions options = arguments.client;
  options.duration =
      std::chrono::nanoseconds(static_cast<std::int64_t>(arguments.duration_s * 1e9));
  options.timeout = milliseconds(arguments.timeout_ms);
  const bool connect_given = arguments.connect_timeout->count() > 0;
  if (connect_given && arguments.connect_timeout_ms > arguments.timeout_ms) {
    return Error(ExitCode::kUsage, "--connect-timeout-ms: expected at most --timeout-ms (" +
                                       std::to_string(arguments.timeout_ms) + "), found " +
                                       std::to_string(arguments.connect_timeout_ms));
  }
  options.connect_timeout =
      milliseconds(connect_given ? arguments.connect_timeout_ms : arguments.timeout_ms);
  options.retry.delay = milliseconds(arguments.retry_delay_ms);
  options.retry.cap = milliseconds(arguments.retry_cap_ms);
  options.retry.max_attempts = static_cast<int>(arguments.max_attempts);
  options.max_outstanding = arguments.max_outstanding;
  options.poll_interval = milliseconds(arguments.poll_interval_ms);
  for (const SourceRange& range : options.sources) {
    if (arguments.clients->count() > 0 && options.clients > range.size()) {
      return Error(ExitCode::kUsage, "--clients: expected at most " + std::to_string(range.size()) +
                                         ", which is what --sources holds, found " +
                                         std::to_string(options.clients));
    }
  }
  if (options.sources.size() == 2 && options.sources[0].is_v6() == options.sources[1].is_v6()) {
    return Error(ExitCode::kUsage,
                 "--sources: expected one IPv4 and one IPv6 network, found two of " +
                     std::string(options.sources[0].is_v6() ? "IPv6" : "IPv4"));
  }
  if (options.sources.size() > 2) {
    return Error(ExitCode::kUsage, "--sources: expected at most two networks, found " +
                                       std::to_string(options.sources.size()));
  }
  return options;
}

asio::awaitable<void> show_progress(asio::steady_timer& timer, const LoadGenerator& generator,
                                    const Summary& summary) {
  for (int second = 1;; ++second) {
    timer.expires_at(timer.expiry() + std::chrono::seconds(1));
    const auto [ec] = co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    if (ec) co_return;
    std::cerr << second << " s: " << summary.requests() << " requests, " << summary.retries()
              << " retries, " << summary.never_served() << " never served, "
              << generator.outstanding() << " under way\n";
  }
}

Result<> run_client(const ClientOptions& options) {
  raise_open_files_limit();
  AttemptLog log;
  if (!options.log_path.empty()) {
    if (auto opened = log.open(options.log_path); !opened) return opened;
  }
  Summary summary;
  asio::io_context io(1);
  LoadGenerator generator(io, options, log, summary);
  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](const boost::system::error_code& ec, int) {
    if (!ec) generator.stop();
  });
  asio::steady_timer progress(io, asio::steady_timer::clock_type::now());
  if (options.progress) asio::co_spawn(io, show_progress(progress, generator, summary), kRethrow);
  asio::co_spawn(io, generator.run(), [&](std::exception_ptr error) {
    signals.cancel();
    progress.cancel();
    kRethrow(error);
  });
  io.run();

  if (summary.skipped() > 0) {
    std::cerr << "petrel-traffic: warning: " << summary.skipped()
              << " requests were not sent: --max-outstanding (" << options.max_outstanding
              << ") were under way\n";
  }
  if (options.json) {
    std::cout << boost::json::serialize(summary.to_json()) << std::endl;
    if (!std::cout) return Error(ExitCode::kRuntime, "write to stdout: failed");
  } else {
    std::cerr << summary.to_text();
  }
  return log.close();
}

void add_retry_options(CLI::App& command, Arguments& arguments) {
  add_parsed(
      command, "--retry", false, parse_retry_kind,
      [&arguments](RetryKind kind) { arguments.client.retry.kind = kind; },
      "After a failure: none, immediate, fixed or exponential (with full jitter)")
      ->default_str("none")
      ->type_name("NAME");
  add_count(command, "--retry-delay-ms", arguments.retry_delay_ms, 0, 3'600'000,
            "fixed: the delay; exponential: its base");
  add_count(command, "--retry-cap-ms", arguments.retry_cap_ms, 0, 3'600'000,
            "exponential: the longest delay");
  add_count(command, "--max-attempts", arguments.max_attempts, 1, 1000,
            "Attempts for a request, the first one included");
  command.add_flag("--retry-posts", arguments.client.retry_posts,
                   "Retry a POST like a GET, not only where its connection was never established");
}

// What users ask for, and who else asks.
void add_mix_options(CLI::App& command, Arguments& arguments) {
  ClientOptions& client = arguments.client;
  add_count(command, "--paths", client.paths, 1, 1'000'000'000,
            "Different paths that requests draw from; a retry repeats its request's");
  add_number(command, "--post-share", client.post_share, 0, 1,
             "Share of the users' requests that are POST with a body; the others are GET");
  add_number(command, "--post-bytes", client.post_mean_bytes, 1, 100'000,
             "Mean length of a POST's body, lognormal; a retry repeats its body");
  add_count(command, "--parallel", client.parallel, 1, 100,
            "Requests that a client sends at once, each on a connection of its own; --rate counts "
            "them together as one");
  add_count(command, "--pollers", client.pollers, 0, 100'000,
            "So many of the clients also ask for /poll at fixed intervals, and never retry");
  add_count(command, "--poll-interval-ms", arguments.poll_interval_ms, 1, 3'600'000,
            "From one poll's start to the next one's");
  command
      .add_option("--id-header", client.id_header,
                  "Send the request's number in this header, for the logs of a proxy")
      ->type_name("NAME");
}

void add_time_options(CLI::App& command, Arguments& arguments) {
  add_number(command, "--rate", arguments.client.rate_per_s, 0.001, 1e6,
             "Requests a second, a Poisson process");
  add_number(command, "--duration", arguments.duration_s, 0.001, 1e6,
             "Seconds in which requests start");
  add_count(command, "--timeout-ms", arguments.timeout_ms, 1, 3'600'000,
            "Of an attempt, its connect included");
  arguments.connect_timeout =
      add_count(command, "--connect-timeout-ms", arguments.connect_timeout_ms, 1, 3'600'000,
                "Of the connect alone")
          ->default_str("--timeout-ms");
}

}  // namespace

void add_client_command(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("client", "Send requests at a rate, open-loop");
  auto arguments = std::make_shared<Arguments>();
  ClientOptions& client = arguments->client;
  add_parsed(
      command, "--target", true, parse_endpoint,
      [&client](const asio::ip::tcp::endpoint& endpoint) { client.targets.push_back(endpoint); },
      "Whom to ask; requests go to several in turn, retries to the same one")
      ->required()
      ->type_name("ADDRESS:PORT");
  add_time_options(command, *arguments);
  add_parsed(
      command, "--sources", true, SourceRange::parse,
      [&client](const SourceRange& range) { client.sources.push_back(range); },
      "Network whose addresses are the clients', one for each family")
      ->type_name("CIDR");
  arguments->clients = add_count(command, "--clients", client.clients, 1, 16'777'216,
                                 "How many addresses of --sources");
  add_retry_options(command, *arguments);
  command.add_flag("--keep-alive", client.keep_alive, "Reuse connections");
  add_mix_options(command, *arguments);
  add_count(command, "--max-outstanding", arguments->max_outstanding, 1, 1'000'000,
            "Requests under way; further ones are not sent, and counted");
  add_count(command, "--seed", client.seed, 0, kAnyCount,
            "Of the random numbers; the arrivals are the same for every retry policy");
  command.add_option("--log", client.log_path, "Write one JSON line for each attempt")
      ->type_name("FILE");
  command.add_flag("--json", client.json, "Summary as JSON on stdout");
  command.add_flag("--progress", client.progress, "A line each second on stderr");
  command.callback([arguments, &chosen] {
    chosen = [arguments]() -> Result<> {
      const auto options = options_of(*arguments);
      if (!options) return options.error();
      return run_client(*options);
    };
  });
}

}  // namespace petrel::traffic
