// SPDX-License-Identifier: MIT
// Lab: network namespaces with backends, and on demand an agent, clients and faults in them.
//
//   client ── lb ─┬─ b1        The agent runs in `lb`, with XDP on to-client and to-b1 ... to-bN.
//                 ├─ ...       Services "web" (IPv4) and "web6" (IPv6) on port 80, as asked for;
//                 └─ bN        the backends listen on port 8080 of both families, with dsr on
//                              port 80 of the VIPs.
//
// Has a name and addresses of its own, so that any number stand side by side, and ends with its
// object, or with the test's process however that ends. Throws std::runtime_error where something
// it needs fails; what its processes wrote is shown when the test has failed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/lab/lab_config.hpp"
#include "tests/lab/process.hpp"
#include "tests/lab/status.hpp"

namespace petrel::test {

class Lab {
 public:
  explicit Lab(LabOptions options = {});
  ~Lab();
  Lab(Lab&&) = delete;

  // Why there can be no lab on this host; "" if there can. Asks once.
  static std::string missing();
  // The model that tests use: the repository's, or $PETREL_TEST_MODEL.
  static std::string model();

  // Starts the agent and waits until it ticks.
  Process& start_agent(const AgentSetup& setup = {});
  // The same without waiting: for one that is to fail.
  Process& launch_agent(const AgentSetup& setup);
  Process& agent() { return *agent_; }

  // `petrel ARGUMENTS` in lb, to its end.
  Finished petrel(const std::vector<std::string>& arguments);
  Process& start_petrel(const std::vector<std::string>& arguments);
  // Any program on a node: "client", "lb", "b1" ...; ends with the lab if not before.
  Process& start(const std::string& node, const std::vector<std::string>& argv);
  Finished run_on(const std::string& node, const std::vector<std::string>& argv,
                  std::chrono::milliseconds deadline = 20s) const;
  // Waits until somebody listens on the port of a node; "tcp" or "udp".
  void await_listener(const std::string& node, int port, const std::string& protocol = "tcp") const;
  std::string vip(Family family = Family::kV4) const;
  std::string backend_address(int number, Family family = Family::kV4) const;
  std::string pin_path() const { return fact("/pin_path"); }
  int backends() const { return options_.backends; }
  const std::string& config_path() const { return config_path_; }
  const std::string& socket() const { return socket_; }
  std::string path(const std::string& file) const { return run_dir_ + "/" + file; }

  // Clients of the service; ends by itself after its --duration, or by end_client().
  Process& start_client(const std::vector<std::string>& options, Family family = Family::kV4);
  Summary end_client(Process& client);    // SIGTERM first
  Summary await_client(Process& client);  // after its --duration

  // Switches backend b<number>'s fault; "none" ends it.
  void fault(int number, const std::string& kind, const std::vector<std::string>& options = {});
  // Of all backends, by their own count: a field of petrel/backend-stats/v1.
  double counted_by_backends(const std::string& field);
  double answered() { return counted_by_backends("answered"); }

  Status status() const;
  // The first status that the predicate holds for; throws with `what` past the deadline.
  Status eventually(const std::string& what, const std::function<bool(const Status&)>& holds,
                    std::chrono::milliseconds deadline = 10s) const;

  // What an agent leaves behind: XDP programs in lb, pins, sockets and locks; "" for nothing.
  std::string leftovers() const;
  int xdp_programs() const;
  bool has_pins() const;

 private:
  std::vector<std::string> in_node(const std::string& node, std::vector<std::string> argv) const;
  Process& spawn(const std::string& name, const std::string& node,
                 const std::vector<std::string>& argv);
  void start_backends();
  void write_config(const AgentSetup& setup);
  std::string control_path(int number) const {
    return path("b" + std::to_string(number) + ".sock");
  }
  std::string fact(const std::string& pointer) const;

  LabOptions options_;
  std::unique_ptr<Facts> facts_;
  std::string name_;
  std::string run_dir_;
  std::string socket_;
  std::string config_path_;
  std::vector<std::unique_ptr<Process>> processes_;  // in the order of their starts
  Process* agent_ = nullptr;
};

// Polls until it holds; throws with `what` past the deadline.
void await(const std::string& what, const std::function<bool()>& holds,
           std::chrono::milliseconds deadline = 10s);

}  // namespace petrel::test
