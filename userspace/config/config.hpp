// SPDX-License-Identifier: MIT
// The configuration file (TOML), checked in full before anything is attached.
//
// Either a Config in which every field is within its limits, or all that is wrong with the file in
// one go, each problem with its line and field. docs/petrel.toml.example shows every key.
#pragma once

#include <boost/system/result.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "bpf/types.h"
#include "control/weights.hpp"
#include "decisions/decision_store.hpp"

namespace petrel {

enum class XdpMode : std::uint8_t { kAuto, kNative, kGeneric };

// What the agent does with the weights that it computes for a service.
enum class ServiceMode : std::uint8_t {
  kShadow,   // logs them
  kAct,      // puts them in force
  kNeutral,  // keeps the configured ones
};

// How packets reach a backend.
enum class Forward : std::uint8_t {
  kNat,  // destination rewritten; replies come back through us
  kDsr,  // encapsulated; the backend answers the client itself
};

// Where a service's connections are seen. All but the balancer's are told of by this host's sockets,
// and nothing is steered there.
enum class Placement : std::uint8_t {
  kBalancer,  // packets pass here and are balanced
  kClient,    // clients are here, or a proxy that is one to the backends
  kBackend,   // backends are here
};

// What a service's choice of backend is a function of.
enum class Affinity : std::uint8_t {
  kFlow,    // client address and port, service port
  kClient,  // client address: all of a client's flows go to one backend
};

// What becomes of the flows of a backend that has left the configuration, or has been drained for
// as long as it may.
enum class RemovalPolicy : std::uint8_t {
  kReset,  // both ends get a RST
  kMove,   // the ring names another backend
};

// What of a client's address may be written to disk; each more than the one before.
enum class ClientPrivacy : std::uint8_t {
  kNone,      // all of it
  kTruncate,  // its network: /24 of IPv4, /48 of IPv6
  kHash,      // a keyed hash
};

// What becomes of a model that has drifted.
enum class DriftAction : std::uint8_t {
  kNeutral,  // no service acts on it: configured weights
  kReport,   // it is said
};

std::string_view to_string(XdpMode mode);
std::string_view to_string(ClientPrivacy privacy);
std::string_view to_string(ServiceMode mode);
std::string_view to_string(Forward forward);
std::string_view to_string(Placement placement);
std::string_view to_string(Affinity affinity);
std::string_view to_string(RemovalPolicy policy);
std::string_view to_string(DriftAction action);

constexpr bpf::address v4_address(std::uint8_t a, std::uint8_t b, std::uint8_t c = 0,
                                  std::uint8_t d = 0) {
  return {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}}};
}

struct AgentConfig {
  std::string pin_path = "/sys/fs/bpf/petrel";
  std::string socket = "/run/petrel/petrel.sock";
  std::vector<std::string> interfaces;  // none: no service is balanced here
  XdpMode xdp_mode = XdpMode::kAuto;
  std::string model = "/usr/share/petrel/retry.json";
  std::string state_dir = "/var/lib/petrel";  // of this agent alone: a promoted model and the former one
  std::chrono::milliseconds tick{100};
  ServiceMode mode = ServiceMode::kShadow;  // of services that name none
  std::uint32_t max_connections = 131072;
  std::uint32_t max_half_open = 65536;  // a power of two, so that a hash's bits name a set
  std::uint32_t max_clients = 65536;
  // Outer source of encapsulated packets: the first 16 bits of an IPv4 address, the first 64 of an
  // IPv6 one; the rest spreads flows over the receiver's queues.
  bpf::address encap_source_v4 = v4_address(172, 16);
  bpf::address encap_source_v6{{{0x01, 0x00}}};  // 100::/64, discard-only (RFC 6666)
  std::chrono::milliseconds heartbeat_limit{10000};
  std::chrono::milliseconds retry_window{5000};
  std::chrono::milliseconds handshake_timeout{200};
  bool socket_sensor = true;
  bool score_in_kernel = false;  // at the outcome itself, by the balancer
  std::string zone;    // this host's; "": none
  std::string cgroup;  // cgroup v2 for sockops; "": the agent finds it
  std::string log_level = "info";
  ClientPrivacy client_privacy = ClientPrivacy::kNone;
  std::string client_privacy_key_file;  // 16 bytes; kHash needs one
};

// The section [model_watch].
struct ModelWatchConfig {
  std::string shadow_model;  // "": none
  double psi_limit = 6.0;
  double ece_limit = 0.15;
  DriftAction drift_action = DriftAction::kNeutral;
  std::chrono::seconds window{3600};

  bool operator==(const ModelWatchConfig&) const = default;
};

struct BackendConfig {
  std::uint32_t id = 0;  // from 1; in the file's order until assign_ids() gives it the one in force
  std::string name;      // at most 15 characters, unique in its service
  bpf::address address{};
  std::uint16_t port = 0;  // host order; dsr: the service's; 0 in a range: the port asked for
  std::uint32_t weight = 100;
  std::string zone;                // "": none
  bool other_zone = false;         // both have a zone, and not the same
  std::uint64_t max_inflight = 0;  // unanswered requests; 0: no limit
  double capacity_per_s = 0;       // requests a second that it can carry; 0: learned
  bool drain = false;              // takes no new flows
};

// The retry budget of a service: retries a second beyond which further ones are refused.
struct BudgetConfig {
  bool enabled = true;
  double ratio = 0.2;     // of first attempts
  double min_per_s = 10;  // whatever the first attempts
  double idle_ratio = 1;  // of first attempts, while no request waits for long and retries help
  double burst_s = 1;     // how many seconds of its rate can be saved up

  bool operator==(const BudgetConfig&) const = default;
};

// Modes of what acts beside the weights; none of its own: the service's. For these shadow and neutral
// do the same to traffic: nothing.
struct ActuatorModes {
  std::optional<ServiceMode> two_choices;
  std::optional<ServiceMode> steering;  // of retries, failover and masked refusals
  std::optional<ServiceMode> budget;
  std::optional<ServiceMode> admission;

  bool operator==(const ActuatorModes&) const = default;
};

struct ServiceConfig {
  std::uint32_t id = 0;  // as a backend's
  std::string name;
  bpf::address address{};
  std::uint16_t port = 0;       // host order; the first of a range, 0 for all ports
  std::uint16_t last_port = 0;  // the last one: `port` for a service of one port, 65535 for all
  std::uint8_t protocol = 6;    // IPPROTO_TCP or IPPROTO_UDP
  Placement placement = Placement::kBalancer;
  Forward forward = Forward::kNat;
  Affinity affinity = Affinity::kFlow;
  ServiceMode mode = ServiceMode::kShadow;  // of the weights, and of actuators without one
  ActuatorModes modes;
  bool two_choices = true;
  bool steer_retries = true;
  // As configured: they have an effect for tcp with nat only.
  bool failover = true;            // a repeated SYN without an answer goes to another backend
  bool mask_refusals = true;       // so does a refused one
  std::uint64_t max_inflight = 0;  // unanswered requests of the whole service; 0: no limit
  bool admission = true;           // a lower limit where clients would not be answered in time
  bool end_abandoned = true;       // while it limits: a client's FIN before the answer is made a RST
  double holdout = 0.01;  // of new flows that learned weights leave alone, to judge them by; 0: none
  BudgetConfig budget;
  bool capacity_guard = true;      // no weight is moved to where it could not be carried
  bool hedge = true;               // a SYN that waits far too long is sent to another backend, too
  std::string probe_path;          // GET of it must answer 2xx or 3xx; "": connecting is enough
  RemovalPolicy on_removal = RemovalPolicy::kReset;
  std::chrono::milliseconds drain_deadline{60000};  // then on_removal; 0: at once
  // At least one. nat: all of the service's address family; dsr: of either for an IPv4 service.
  std::vector<BackendConfig> backends;

  // More than one port: backends are addressed at the port asked for, and name none.
  bool is_range() const { return last_port != port; }
  bool is_balanced() const { return placement == Placement::kBalancer; }
  bool acts(const std::optional<ServiceMode>& own) const {
    return own.value_or(mode) == ServiceMode::kAct;
  }
};

struct Config {
  AgentConfig agent;
  WeightSettings control;
  ModelWatchConfig model_watch;
  DecisionLogSettings log;
  std::vector<ServiceConfig> services;  // at least one

  // Over what is configured. To act is to steer: only balanced services can.
  void set_mode(ServiceMode mode);
  // Some service is told of by sockets.
  bool has_sockets() const;
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
