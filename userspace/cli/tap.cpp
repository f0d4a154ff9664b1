// SPDX-License-Identifier: MIT
// petrel tap: packets as they came to the balancer and as they left it, with what was decided.
//
// The agent puts a tapping copy of the program in place for as long as our connection to it lives;
// the packets themselves come through the pinned map `taps`.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iostream>
#include <memory>

#include "cli/verbs.hpp"
#include "tap/capture_file.hpp"
#include "tap/client_prefix.hpp"
#include "tap/lease.hpp"
#include "tap/pairing.hpp"
#include "tap/reader.hpp"
#include "tap/report.hpp"
#include "tap/verdicts.hpp"

namespace petrel::cli {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kAgentDeadline = 10s;  // loading and verifying a program takes a second or two
constexpr auto kPollInterval = 50ms;

struct TapArguments {
  AgentAddress address;
  std::string output;  // "": text on stdout
  std::string service;
  std::string backend;
  std::string client;
  std::vector<std::string> verdicts;
  std::uint32_t sample = 1;
  std::uint64_t count = 0;
  double duration_s = 0;
  std::uint32_t snapshot_bytes = 0;
  bool in_only = false;
  bool out_only = false;
  bool json = false;

  tap::Sides sides() const {
    if (in_only) return tap::Sides::kIn;
    return out_only ? tap::Sides::kOut : tap::Sides::kBoth;
  }
  // What the agent filters by; the rest is told from both records, here.
  std::string target() const {
    const std::string sampled = "/v1/tap?sample=" + std::to_string(sample);
    return client.empty() ? sampled : sampled + "&client=" + client;
  }
};

std::atomic<bool> interrupted{false};  // set by the signal handler: that is all it may do

Result<tap::PacketFilter> make_filter(const TapArguments& arguments, const tap::Names& names) {
  tap::PacketFilter filter;
  if (!arguments.service.empty()) {
    auto ids = names.service_ids(arguments.service);
    if (!ids) return ids.error();
    filter.services = std::move(*ids);
  }
  if (!arguments.backend.empty()) {
    auto ids = names.backend_ids(arguments.backend, arguments.service);
    if (!ids) return ids.error();
    filter.backends = std::move(*ids);
  }
  for (const auto& verdict : arguments.verdicts) {
    filter.verdicts.insert(tap::verdict_by_name(verdict).value());
  }
  return filter;
}

// Where packets are shown: a capture file, or a line each.
class Output {
 public:
  Output(const TapArguments& arguments, std::ostream& out)
      : out_(out), sides_(arguments.sides()), json_(arguments.json) {
    if (arguments.output.empty()) return;
    file_ = std::make_unique<tap::CaptureFile>(
        out, tap::CaptureFileOptions{.application = "petrel " PETREL_VERSION,
                                     .sides = sides_,
                                     .snapshot_bytes = arguments.snapshot_bytes,
                                     .wall_offset_ns = offset_ns_});
    out.flush();  // a reader at the other end of a pipe waits for the file's head
  }

  // False: it has no side that is asked for.
  bool show(const tap::TappedPacket& packet, const tap::Names& names) {
    if (!shows_arrival(packet, sides_) && !shows_departure(packet, sides_)) return false;
    if (file_) {
      file_->write(packet, names);
    } else {
      const auto line = json_ ? tap::json_line : tap::text_line;
      out_ << line(packet, names, sides_, offset_ns_) << '\n';
    }
    return true;
  }

 private:
  std::ostream& out_;
  tap::Sides sides_;
  bool json_;
  std::uint64_t offset_ns_ = tap::wall_offset_ns();
  std::unique_ptr<tap::CaptureFile> file_;
};

struct Tally {
  std::uint64_t shown = 0;
  std::uint64_t seen = 0;
};

void show_all(const std::vector<tap::TappedPacket>& packets, const tap::PacketFilter& filter,
              const TapArguments& arguments, const tap::Names& names, Output& output,
              Tally& tally) {
  for (const auto& packet : packets) {
    if (arguments.count != 0 && tally.shown == arguments.count) return;
    ++tally.seen;
    if (filter.takes(packet) && output.show(packet, names)) ++tally.shown;
  }
}

int run_tap(const TapArguments& arguments) {
  auto socket = arguments.address.resolve();
  if (!socket) return fail(socket.error());
  std::signal(SIGINT, [](int) { interrupted = true; });
  std::signal(SIGTERM, [](int) { interrupted = true; });

  auto taken = tap::Lease::take(*socket, arguments.target(), kAgentDeadline);
  if (!taken) return fail(taken.error());
  std::unique_ptr<tap::Lease> lease = std::move(*taken);
  const tap::Names names = lease->names();
  const auto filter = make_filter(arguments, names);
  if (!filter) return fail(filter.error());
  tap::Pairing pairing;
  auto reader = tap::TapReader::open(
      names.pin_path + "/taps", [&pairing](tap::Sample sample) { pairing.add(std::move(sample)); });
  if (!reader) return fail(reader.error());

  // Only now: an earlier capture is not lost to a tap that cannot begin.
  std::ofstream file;
  const bool to_file = !arguments.output.empty() && arguments.output != "-";
  if (to_file) {
    file.open(arguments.output, std::ios::binary | std::ios::trunc);
    if (!file) return fail(Error::from_errno(errno, "write " + arguments.output));
  }
  std::ostream& out = to_file ? file : std::cout;
  Output output(arguments, out);
  Tally tally;
  const std::chrono::duration<double> duration(arguments.duration_s);
  const auto begun = Clock::now();
  const auto enough = [&] {
    return interrupted || !out.good() || (arguments.count != 0 && tally.shown >= arguments.count) ||
           (arguments.duration_s > 0 && Clock::now() - begun >= duration);
  };
  bool deserted = false;
  while (!enough() && !deserted) {
    deserted = lease->ended();
    if (auto polled = reader->poll(kPollInterval); !polled) return fail(polled.error());
    show_all(pairing.take(), *filter, arguments, names, output, tally);
    out.flush();
  }
  lease.reset();
  if (auto polled = reader->poll(0ms); !polled) return fail(polled.error());
  show_all(pairing.take_all(), *filter, arguments, names, output, tally);
  out.flush();
  std::cerr << "tapped " << tally.shown << " packets of " << tally.seen << " read; "
            << reader->lost() << " records lost, " << pairing.halves()
            << " packets with one record only\n";
  if (!out.good()) {
    return fail(Error(ExitCode::kRuntime,
                      std::string("write ") + (to_file ? arguments.output : "stdout") + " failed"));
  }
  if (deserted) return fail(Error(ExitCode::kUnreachable, "the agent ended the tap"));
  return 0;
}

std::string prefix_problem(std::string& text) {
  const auto prefix = tap::parse_client_prefix(text);
  return prefix ? "" : prefix.error().message();
}

}  // namespace

void add_tap(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<TapArguments>();
  CLI::App* command = app.add_subcommand(
      "tap", "Show packets as they came and as they left, with what was decided and why");
  arguments->address.add_options(*command);
  command->add_option("-w,--write", arguments->output,
                      "Write pcapng, with comments, to this file, or - for stdout "
                      "(| tshark -r -); without it a line of text a packet");
  command->add_option("--service", arguments->service, "Only packets of this service");
  command->add_option("--backend", arguments->backend, "Only packets of this backend");
  command
      ->add_option("--client", arguments->client,
                   "Only packets of these clients: an address or a prefix")
      ->check(CLI::Validator(prefix_problem, "ADDRESS[/BITS]"));
  command
      ->add_option("--verdict", arguments->verdicts,
                   "Only packets with this verdict or note, as in `petrel status --drops`; "
                   "may be given again")
      ->allow_extra_args(false)
      ->check([](const std::string& name) {
        if (tap::verdict_by_name(name)) return std::string();
        std::string known;
        for (const auto each : tap::verdict_names()) known += " " + std::string(each);
        return "'" + name + "' is no verdict; there are:" + known;
      });
  command->add_option("--sample", arguments->sample, "One of so many packets")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--count", arguments->count, "End after so many packets")
      ->check(CLI::PositiveNumber);
  command->add_option("--duration", arguments->duration_s, "Seconds; without it until SIGINT")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--snaplen", arguments->snapshot_bytes,
                   "At most so many bytes of each packet in the file; "
                   "without it as many as the balancer hands on")
      ->check(CLI::PositiveNumber);
  CLI::Option* in_only = command->add_flag("--in-only", arguments->in_only, "Only as they came");
  command->add_flag("--out-only", arguments->out_only, "Only as they left")->excludes(in_only);
  command->add_flag("--json", arguments->json, "A JSON object a packet, instead of text")
      ->excludes("--write");
  command->callback([arguments, &action] { action = [arguments] { return run_tap(*arguments); }; });
}

}  // namespace petrel::cli
