// SPDX-License-Identifier: MIT
// What a lab and its agent can be asked to be, and the configuration that comes of it.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "tests/lab/status.hpp"

namespace petrel::test {

enum class Family { kV4, kV6 };

inline void PrintTo(Family family, std::ostream* out) {
  *out << (family == Family::kV4 ? "IPv4" : "IPv6");
}

// A [[service]] over all backends.
struct ServiceSetup {
  std::string name = {};
  int port = 0;          // of the VIP; 0: none is named, `lines` says which
  int backend_port = 0;  // 0: none is named
  Family family = Family::kV4;
  std::string lines = {};  // more of its keys
};

struct LabOptions {
  int backends = 3;
  double service_time_ms = 4;
  std::string distribution = "lognormal";
  int concurrency = 16;         // requests that a backend works on at a time
  std::vector<Family> families = {Family::kV4};  // each a service, in this order
  bool dsr = false;             // services are dsr: backends have the VIPs and decapsulate
  bool over_v6 = false;         // dsr: to the backends' IPv6 addresses, whatever the service's
  int mtu = 1500;               // of the backends' links
  bool single_packets = false;  // captures at the nodes' ends show what is on the wire
};

struct AgentSetup {
  std::string mode = "act";
  std::string model = {};                    // "": the repository's
  std::vector<std::string> arguments = {};   // of `petrel agent`
  std::string agent_lines = {};              // more of [agent]
  std::string control_lines = {};            // of [control]
  std::vector<std::string> interfaces = {};  // beside the lab's own
  bool balances = true;                      // false: no interface is named
  bool client_side_only = false;             // replies do not pass XDP: none on to-b1 ... to-bN
  std::string service_lines = {};            // more of each of the lab's own [[service]]s
  std::vector<ServiceSetup> services = {};   // beside the lab's own
};

// The configuration of an agent in the lab of these facts, with its API at `socket`.
std::string config_text(const Facts& lab, const LabOptions& options, const AgentSetup& setup,
                        const std::string& socket, const std::string& default_model);

// The address of node 1 ... N (0: the client), and what clients connect to.
std::string node_address(const Facts& lab, int number, Family family);
std::string vip_address(const Facts& lab, Family family);

inline constexpr int kServicePort = 80;
inline constexpr int kBackendPort = 8080;

}  // namespace petrel::test
