// SPDX-License-Identifier: MIT
// The configuration file (TOML), checked in full before anything is attached.
//
// Either a Config in which every field is within its limits, or all that is wrong with the file in
// one go, each problem with its line and field. docs/petrel.toml.example shows every key.
#pragma once

#include <boost/system/result.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "bpf/types.h"
#include "control/weights.hpp"

namespace petrel {

enum class XdpMode : std::uint8_t { kAuto, kNative, kGeneric };

// What the agent does with the weights that it computes for a service.
enum class ServiceMode : std::uint8_t {
  kShadow,   // logs them
  kAct,      // puts them in force
  kNeutral,  // keeps the configured ones
};

std::string_view to_string(XdpMode mode);
std::string_view to_string(ServiceMode mode);

struct AgentConfig {
  std::string pin_path = "/sys/fs/bpf/petrel";
  std::string socket = "/run/petrel/petrel.sock";
  std::vector<std::string> interfaces;  // at least one
  XdpMode xdp_mode = XdpMode::kAuto;
  std::string model = "/usr/share/petrel/retry.json";
  std::chrono::milliseconds tick{100};
  ServiceMode mode = ServiceMode::kShadow;  // of services that name none
  std::uint32_t max_connections = 131072;
  std::uint32_t max_clients = 65536;
  std::chrono::milliseconds heartbeat_limit{10000};
  std::chrono::milliseconds retry_window{5000};
  std::chrono::milliseconds handshake_timeout{200};
  bool socket_sensor = true;
  std::string cgroup;  // cgroup v2 for sockops; "": the agent finds it
  std::string log_level = "info";
};

struct BackendConfig {
  std::uint32_t id = 0;  // from 1, in the file's order, over all services
  std::string name;      // at most 15 characters, unique in its service
  bpf::address address{};
  std::uint16_t port = 0;  // host order
  std::uint32_t weight = 100;
  std::string zone;  // "": none
};

struct ServiceConfig {
  std::uint32_t id = 0;  // from 1, in the file's order
  std::string name;
  bpf::address address{};
  std::uint16_t port = 0;     // host order
  std::uint8_t protocol = 6;  // IPPROTO_TCP
  ServiceMode mode = ServiceMode::kShadow;
  bool two_choices = true;
  bool steer_retries = true;
  std::vector<BackendConfig> backends;  // at least one, all of the service's address family
};

struct Config {
  AgentConfig agent;
  WeightSettings control;
  std::vector<ServiceConfig> services;  // at least one
};

struct ConfigProblem {
  std::string file;
  std::uint32_t line = 0;    // from 1; 0: the file as a whole
  std::uint32_t column = 0;  // from 1
  std::string field;         // "service[0].backend[1].port", counted from 0
  std::string expected;
  std::string found;

  // "petrel.toml:12:3: agent.tick_ms: expected ..., found ..."
  std::string text() const;
};

struct ConfigProblems {
  std::vector<ConfigProblem> list;  // in the file's order; never empty in a failed ConfigResult

  std::string text() const;  // one line each
  Error error() const;       // ExitCode::kInput with text()
};

// value() of a failed ConfigResult is our own bug.
[[noreturn]] void throw_exception_from_error(const ConfigProblems& problems,
                                             const boost::source_location&);

using ConfigResult = boost::system::result<Config, ConfigProblems>;

ConfigResult load_config(const std::string& path);

// `name` stands for the file in problems.
ConfigResult load_config_text(std::string_view text, std::string_view name);

}  // namespace petrel
