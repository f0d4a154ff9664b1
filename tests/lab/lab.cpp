// SPDX-License-Identifier: MIT
#include "tests/lab/lab.hpp"

#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <thread>

#include "api/client.hpp"

namespace petrel::test {
namespace fs = std::filesystem;

namespace {

constexpr auto kPollInterval = 20ms;

std::string endpoint(const std::string& address, int port) {
  const bool v6 = address.find(':') != std::string::npos;
  return (v6 ? "[" + address + "]" : address) + ":" + std::to_string(port);
}

std::string why_no_lab() {
  if (::geteuid() != 0) return "needs root";
  if (!fs::exists("/sys/kernel/btf/vmlinux")) return "needs a kernel with BTF";
  const UniqueFd map(::bpf_map_create(BPF_MAP_TYPE_ARRAY, "lab_probe", 4, 4, 1, nullptr));
  if (!map) return "needs CAP_BPF: BPF_MAP_CREATE: " + errno_name(errno);
  const Finished unshared = run({"unshare", "--net", "true"});
  if (unshared.exit_code != 0) return "needs network namespaces: " + unshared.err;
  return {};
}

void show(const Process& process) {
  constexpr std::size_t kMostShown = 4000;
  std::string err = process.err();
  if (err.size() > kMostShown) err = "...\n" + err.substr(err.size() - kMostShown);
  if (!err.empty()) std::cerr << "--- " << process.name() << "\n" << err;
}

void append(std::vector<std::string>& to, const std::vector<std::string>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

void await(const std::string& what, const std::function<bool()>& holds,
           std::chrono::milliseconds deadline) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) {
      throw std::runtime_error("not within " + std::to_string(deadline.count()) + " ms: " + what);
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

std::string Lab::missing() {
  static const std::string kMissing = why_no_lab();
  return kMissing;
}

std::string Lab::model() {
  const char* other = std::getenv("PETREL_TEST_MODEL");
  return other != nullptr ? other : PETREL_MODEL;
}

// --- life ----------------------------------------------------------------------------------------

Lab::Lab(LabOptions options) : options_(std::move(options)) {
  std::vector<std::string> argv = {PETREL_LAB_SCRIPT, "up", "--json",
                                   "--backends", std::to_string(options_.backends),
                                   "--owner", std::to_string(::getpid()),
                                   "--mtu", std::to_string(options_.mtu),
                                   "--program", PETREL_LAB_PROGRAM};
  if (options_.dsr) argv.push_back("--dsr");
  if (options_.single_packets) argv.push_back("--single-packets");
  const Finished raised = run(argv);
  if (raised.exit_code != 0) throw std::runtime_error("raise a lab: " + raised.err);
  facts_ = std::make_unique<Facts>(raised.out);
  name_ = fact("/name");
  run_dir_ = fact("/run_dir");
  socket_ = path("petrel.sock");
  config_path_ = path("petrel.toml");
  start_backends();
}

Lab::~Lab() {
  const bool failed = testing::Test::HasFailure() || std::uncaught_exceptions() > 0;
  while (!processes_.empty()) {
    processes_.back()->send(SIGTERM);
    try {
      processes_.back()->wait(5s);
    } catch (const std::exception& late) {
      std::cerr << late.what() << ": killing it\n";
      processes_.back()->send(SIGKILL);
    }
    if (failed) show(*processes_.back());
    processes_.pop_back();
  }
  const Finished removed = run({PETREL_LAB_SCRIPT, "down", "--name", name_});
  if (removed.exit_code != 0) ADD_FAILURE() << "remove the lab: " << removed.err;
}

void Lab::start_backends() {
  for (int i = 1; i <= options_.backends; ++i) {
    const std::string name = "b" + std::to_string(i);
    std::vector<std::string> argv = {PETREL_TRAFFIC_BINARY, "backend", "--name", name,
                                     "--control", control_path(i),
                                     "--service-time-ms", std::to_string(options_.service_time_ms),
                                     "--distribution", options_.distribution,
                                     "--concurrency", std::to_string(options_.concurrency)};
    for (const Family family : {Family::kV4, Family::kV6}) {
      append(argv, {"--listen", endpoint(backend_address(i, family), kBackendPort)});
      if (options_.dsr) append(argv, {"--listen", endpoint(vip(family), kServicePort)});
    }
    spawn(name, name, argv);
  }
  for (int i = 1; i <= options_.backends; ++i) {
    await("b" + std::to_string(i) + " listens", [&] { return fs::exists(control_path(i)); });
  }
}

// --- processes -----------------------------------------------------------------------------------

std::string Lab::fact(const std::string& pointer) const { return facts_->text(pointer); }

std::string Lab::backend_address(int number, Family family) const {
  return node_address(*facts_, number, family);
}

std::string Lab::vip(Family family) const { return vip_address(*facts_, family); }

// Not `ip netns exec`, which hides /sys/fs/bpf. nsenter becomes the program: one process.
std::vector<std::string> Lab::in_node(const std::string& node,
                                      std::vector<std::string> argv) const {
  std::vector<std::string> entered = {
      "nsenter", "--net=/run/netns/petrel-" + name_ + "-" + node, "--"};
  append(entered, argv);
  return entered;
}

Process& Lab::spawn(const std::string& name, const std::string& node,
                    const std::vector<std::string>& argv) {
  processes_.push_back(std::make_unique<Process>(name_ + " " + name, in_node(node, argv)));
  return *processes_.back();
}

Process& Lab::start(const std::string& node, const std::vector<std::string>& argv) {
  return spawn(node + " " + argv[0], node, argv);
}

Finished Lab::run_on(const std::string& node, const std::vector<std::string>& argv,
                     std::chrono::milliseconds deadline) const {
  return run(in_node(node, argv), deadline);
}

void Lab::await_listener(const std::string& node, int port, const std::string& protocol) const {
  const std::string asked = "( sport = :" + std::to_string(port) + " )";
  await(node + " listens on " + protocol + " port " + std::to_string(port), [&] {
    return !run_on(node, {"ss", "-Hnl", "--" + protocol, asked}).out.empty();
  });
}

Finished Lab::petrel(const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {PETREL_BINARY};
  append(argv, arguments);
  return run(in_node("lb", argv));
}

Process& Lab::start_petrel(const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {PETREL_BINARY};
  append(argv, arguments);
  return spawn("petrel " + arguments[0], "lb", argv);
}

Process& Lab::launch_agent(const AgentSetup& setup) {
  write_config(setup);
  std::vector<std::string> arguments = {"agent", "-c", config_path_};
  append(arguments, setup.arguments);
  return start_petrel(arguments);
}

Process& Lab::start_agent(const AgentSetup& setup) {
  agent_ = &launch_agent(setup);
  await("the agent serves", [&] {
    if (!agent_->running()) throw std::runtime_error("the agent did not start: " + agent_->err());
    const auto answer = api_get(socket_, "/v1/status");
    return answer && Status(*answer).number("/loop/ticks") > 0;
  });
  return *agent_;
}

Process& Lab::start_client(const std::vector<std::string>& options, Family family) {
  const bool v4 = family == Family::kV4;
  std::vector<std::string> argv = {PETREL_TRAFFIC_BINARY, "client", "--json", "--target",
                                   endpoint(vip(family), kServicePort),
                                   "--sources", fact(v4 ? "/client4_net" : "/client6_net")};
  append(argv, options);
  return spawn("client", "client", argv);
}

Summary Lab::end_client(Process& client) {
  client.send(SIGTERM);
  return await_client(client);
}

Summary Lab::await_client(Process& client) {
  if (const int code = client.wait(30s); code != 0) {
    throw std::runtime_error("the client ended with " + std::to_string(code));
  }
  return Summary(client.out());
}

void Lab::fault(int number, const std::string& kind, const std::vector<std::string>& options) {
  std::vector<std::string> argv = {PETREL_TRAFFIC_BINARY, "fault", "--control",
                                   control_path(number), kind};
  append(argv, options);
  const Finished switched = run(argv);
  if (switched.exit_code != 0) throw std::runtime_error("fault " + kind + ": " + switched.err);
}

double Lab::counted_by_backends(const std::string& field) {
  double sum = 0;
  for (int i = 1; i <= options_.backends; ++i) {
    sum += Facts(run({PETREL_TRAFFIC_BINARY, "stats", "--control", control_path(i)}).out)
               .number("/" + field);
  }
  return sum;
}

void Lab::write_config(const AgentSetup& setup) {
  std::ofstream file(config_path_);
  file << config_text(*facts_, options_, setup, socket_, model());
  file.close();
  if (!file) throw std::runtime_error("write " + config_path_);
}

// --- what there is to see ------------------------------------------------------------------------

Status Lab::status() const {
  const auto answer = api_get(socket_, "/v1/status");
  if (!answer) throw std::runtime_error(answer.error().message());
  return Status(*answer);
}

Status Lab::eventually(const std::string& what, const std::function<bool(const Status&)>& holds,
                       std::chrono::milliseconds deadline) const {
  Status last = status();
  try {
    await(what, [&] { return holds(last) || holds(last = status()); }, deadline);
  } catch (const std::exception& late) {
    throw std::runtime_error(std::string(late.what()) + "; " + last.weights());
  }
  return last;
}

int Lab::xdp_programs() const {
  const Finished links = run({"ip", "-n", "petrel-" + name_ + "-lb", "-json", "link", "show"});
  if (links.exit_code != 0) throw std::runtime_error("list the links of lb: " + links.err);
  const boost::json::value parsed = boost::json::parse(links.out);
  int count = 0;
  for (const auto& link : parsed.as_array()) {
    count += link.as_object().contains("xdp");
  }
  return count;
}

bool Lab::has_pins() const { return fs::exists(fact("/pin_path")); }

std::string Lab::leftovers() const {
  std::string found;
  if (const int count = xdp_programs(); count > 0) {
    found += std::to_string(count) + " XDP programs; ";
  }
  if (has_pins()) found += "pins; ";
  if (fs::exists(socket_)) found += "the API's socket; ";
  if (fs::exists(socket_ + ".lock")) found += "its lock; ";
  return found;
}

}  // namespace petrel::test
