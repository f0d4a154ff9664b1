// SPDX-License-Identifier: MIT
// The agent without the balancer: what this host's sockets tell of connections, request by request.
//
//   client ── lb ─┬─ b1    clients go straight to the backends; lb routes, and no XDP is anywhere.
//                 └─ b2    All nodes are one host to the sensor: it sees both ends of each connection.
#include <algorithm>
#include <csignal>
#include <fstream>

#include "tests/lab/connection_table.hpp"
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using namespace std::chrono_literals;

std::string target(const Lab& lab, int number, Family family) {
  const std::string address = lab.backend_address(number, family);
  return (family == Family::kV6 ? "[" + address + "]" : address) + ":" +
         std::to_string(kBackendPort);
}

// Clients that name a backend themselves.
Process& start_direct(Lab& lab, int number, Family family, std::vector<std::string> options) {
  std::vector<std::string> argv = {PETREL_TRAFFIC_BINARY, "client", "--json", "--target",
                                   target(lab, number, family)};
  argv.insert(argv.end(), options.begin(), options.end());
  return lab.start("client", argv);
}

AgentSetup at(const std::string& placement) {
  return {.mode = "shadow", .balances = false,
          .service_lines = "placement = \"" + placement + "\""};
}

// Maps are read one CPU after the other while packets flow.
Status settled(Lab& lab) {
  const double ticks = lab.status().number("/loop/ticks");
  return lab.eventually("two more ticks", [&](const Status& s) {
    return s.number("/loop/ticks") > ticks + 2;
  });
}

struct Case {
  const char* placement;
  Family family;
  bpf::sensor owner;
};

class PlacementTest : public LabTest, public testing::WithParamInterface<Case> {
 protected:
  bool at_client() const { return GetParam().owner == bpf::SENSOR_CONNECTING; }
};

INSTANTIATE_TEST_SUITE_P(
    Ends, PlacementTest,
    testing::Values(Case{"client", Family::kV4, bpf::SENSOR_CONNECTING},
                    Case{"client", Family::kV6, bpf::SENSOR_CONNECTING},
                    Case{"backend", Family::kV4, bpf::SENSOR_ACCEPTING},
                    Case{"backend", Family::kV6, bpf::SENSOR_ACCEPTING}),
    [](const auto& each) {
      return std::string(each.param.placement) + (each.param.family == Family::kV4 ? "4" : "6");
    });

// Both ends are seen here, and each connection and request counts once all the same.
TEST_P(PlacementTest, SocketsTellOnceOfWhatTheClientDid) {
  const Family family = GetParam().family;
  Lab lab({.backends = 2, .families = {family}});
  lab.start_agent(at(GetParam().placement));
  EXPECT_EQ(lab.xdp_programs(), 0);
  Process& first = start_direct(lab, 1, family, {"--rate", "60", "--duration", "2"});
  Process& second = start_direct(lab, 2, family, {"--rate", "60", "--duration", "2"});
  const Summary one = lab.await_client(first), two = lab.await_client(second);
  ASSERT_EQ(one.failed() + two.failed(), 0) << one.outcomes() << two.outcomes();
  const double attempts = one.attempts() + two.attempts();
  lab.eventually("all connections have ended", [&](const Status& s) {
    return s.sum("wire/closes") == attempts && s.sum("socket/closes") == attempts;
  });
  const Status status = settled(lab);
  EXPECT_EQ(status.backend(1, "wire/connections"), one.attempts());
  EXPECT_EQ(status.backend(2, "wire/connections"), two.attempts());
  for (const char* counter : {"wire/established", "wire/requests", "wire/answers",
                              "wire/status_2xx", "socket/connects"}) {
    EXPECT_EQ(status.sum(counter), attempts) << counter;
  }
  EXPECT_EQ(status.service("first_attempts"), attempts);
  EXPECT_EQ(status.service("retries"), 0);
  EXPECT_EQ(status.sum("socket/bytes_sent"), status.sum("wire/bytes_out"));
  EXPECT_EQ(status.sum("socket/bytes_received"), status.sum("wire/bytes_in"));
  for (const char* gauge : {"waiting", "waiting_syn", "inflight"}) {
    EXPECT_EQ(status.sum(gauge), 0) << gauge;
  }
  EXPECT_EQ(status.at("/degraded").as_array().size(), 0u);

  const auto connections = read_connections(lab.pin_path());
  EXPECT_EQ(connections.size(), attempts);
  for (const bpf::connection& connection : connections) {
    EXPECT_EQ(connection.owner, GetParam().owner);
    EXPECT_EQ(connection.requests, 1u);
    EXPECT_EQ(connection.status, 200);
    EXPECT_EQ(connection.state, bpf::CONNECTION_CLOSED);
    EXPECT_LE(connection.syn_ns, connection.request_ns);
    EXPECT_LT(connection.request_ns, connection.response_ns);
    for (const bpf::socket_view& view : connection.sockets) {  // the other end looked on
      EXPECT_GT(view.connect_ns, 0u);
      EXPECT_GT(view.srtt_us, 0u);
      EXPECT_GT(view.rttvar_us, 0u);
    }
    EXPECT_EQ(connection.sockets[bpf::END_CONNECTING].bytes_sent, connection.bytes_in);
    EXPECT_EQ(connection.sockets[bpf::END_ACCEPTING].bytes_sent, connection.bytes_out);
  }
}

TEST_P(PlacementTest, KeptConnectionsGiveARequestEach) {
  const Family family = GetParam().family;
  Lab lab({.backends = 1, .families = {family}});
  lab.start_agent(at(GetParam().placement));
  const Summary summary = lab.await_client(start_direct(
      lab, 1, family, {"--rate", "150", "--duration", "2", "--keep-alive"}));
  ASSERT_EQ(summary.failed(), 0) << summary.outcomes();
  lab.eventually("all requests are answered", [&](const Status& s) {
    return s.sum("wire/answers") == summary.attempts();
  });
  const Status status = settled(lab);
  EXPECT_EQ(status.sum("wire/requests"), summary.attempts());
  EXPECT_EQ(status.service("first_attempts"), summary.attempts());
  EXPECT_LT(status.sum("wire/connections"), summary.attempts());
  EXPECT_EQ(status.sum("waiting"), 0);
}

TEST_P(PlacementTest, ErrorsAreFailuresAndWhatFollowsIsARetry) {
  const Family family = GetParam().family;
  Lab lab({.backends = 1, .families = {family}});
  lab.start_agent(at(GetParam().placement));
  lab.fault(1, "errors", {"--rate", "0.5", "--status", "503"});
  const Summary summary = lab.await_client(
      start_direct(lab, 1, family, {"--rate", "20", "--duration", "3", "--retry", "fixed",
                                    "--retry-delay-ms", "10", "--max-attempts", "3"}));
  lab.eventually("all requests are answered", [&](const Status& s) {
    return s.sum("wire/answers") == summary.attempts();
  });
  const Status status = settled(lab);
  ASSERT_GT(summary.failed(), 0);
  EXPECT_EQ(status.service("failures/server_error"), summary.failed());
  EXPECT_EQ(status.sum("wire/status_2xx"), summary.ended("ok"));
  EXPECT_GT(status.service("retries"), 0);
  EXPECT_EQ(status.service("retries") + status.service("first_attempts"), summary.attempts());
}

TEST_P(PlacementTest, AResetIsTheBackendsFailure) {
  const Family family = GetParam().family;
  Lab lab({.backends = 1, .families = {family}});
  lab.start_agent(at(GetParam().placement));
  lab.fault(1, "reset");
  const Summary summary = lab.await_client(
      start_direct(lab, 1, family, {"--rate", "50", "--duration", "1"}));
  ASSERT_EQ(summary.failed(), summary.attempts());
  const Status status = lab.eventually("all have failed", [&](const Status& s) {
    return s.service("failures/reset") == summary.attempts();
  });
  EXPECT_EQ(settled(lab).sum("inflight"), 0);
}

TEST_P(PlacementTest, ARefusalIsSeenWhereItIsSuffered) {
  const Family family = GetParam().family;
  Lab lab({.backends = 1, .families = {family}});
  lab.start_agent(at(GetParam().placement));
  lab.fault(1, "refuse");
  const Summary summary = lab.await_client(
      start_direct(lab, 1, family, {"--rate", "50", "--duration", "1"}));
  ASSERT_EQ(summary.ended("refused"), summary.attempts()) << summary.outcomes();
  // The backend's host has no socket that it could tell of.
  const double seen = at_client() ? summary.attempts() : 0;
  lab.eventually("refusals", [&](const Status& s) {
    return s.service("failures/refused") == seen && s.sum("wire/connections") == seen;
  });
  const Status status = settled(lab);
  EXPECT_EQ(status.service("failures/refused"), seen);
  EXPECT_EQ(status.sum("waiting_syn"), 0);
  EXPECT_EQ(status.sum("inflight"), 0);
}

TEST_P(PlacementTest, WhatWaitsIsKnownUntilItsClientLeaves) {
  const Family family = GetParam().family;
  Lab lab({.backends = 1, .families = {family}});
  lab.start_agent(at(GetParam().placement));
  lab.fault(1, "hang");
  Process& client = start_direct(lab, 1, family, {"--rate", "20", "--duration", "2",
                                                  "--timeout-ms", "20000"});
  lab.eventually("requests wait", [](const Status& s) { return s.sum("waiting") >= 30; });
  const Status waiting = settled(lab);

  // Established sockets, by the kernel's own account.
  const std::string port = std::to_string(kBackendPort);
  const std::string end = at_client() ? "dport" : "sport";
  const Finished ss = lab.run_on(at_client() ? "client" : "b1",
                                 {"ss", "-Hnt", "state", "established", "( " + end + " = :" + port + " )"});
  const auto sockets = std::count(ss.out.begin(), ss.out.end(), '\n');
  std::size_t live = 0;
  for (const bpf::connection& connection : read_connections(lab.pin_path())) {
    live += connection.state != bpf::CONNECTION_CLOSED;
  }
  EXPECT_GE(static_cast<double>(sockets), waiting.sum("waiting"));
  EXPECT_EQ(live, static_cast<std::size_t>(sockets));

  client.send(SIGKILL);
  client.wait();
  lab.eventually("nothing waits", [](const Status& s) {
    return s.sum("waiting") == 0 && s.sum("inflight") == 0 && s.service("failures/abandoned") >= 30;
  });
}

using SilentHostTest = LabTest;

TEST_F(SilentHostTest, IsATimeoutAtItsClient) {
  Lab lab({.backends = 1});
  lab.start_agent(at("client"));
  lab.fault(1, "blackhole");
  const Summary summary = lab.await_client(start_direct(
      lab, 1, Family::kV4, {"--rate", "20", "--duration", "1", "--connect-timeout-ms", "500",
                            "--timeout-ms", "700"}));
  ASSERT_EQ(summary.failed(), summary.attempts()) << summary.outcomes();
  lab.eventually("timeouts", [&](const Status& s) {
    return s.service("failures/handshake_timeout") == summary.attempts();
  });
  const Status status = settled(lab);
  EXPECT_EQ(status.sum("waiting_syn"), 0);
  EXPECT_EQ(status.sum("inflight"), 0);
}

//   client ── lb ── b1   hangs. Clients run at lb, in the agent's namespace, and in one of their own.
using AwayTest = LabTest;

const std::vector<std::string> kFewWaits = {"--rate", "20", "--duration", "1", "--timeout-ms",
                                            "120000"};

// What closed while no sensor was there cannot be told from what waits in another namespace: both are
// unaccounted for; what the agent's own namespace still has is not.
TEST_F(AwayTest, WhatMayHaveClosedUnseenIsSaid) {
  Lab lab({.backends = 1});
  AgentSetup setup = at("client");
  setup.arguments = {"--keep"};
  Process& agent = lab.start_agent(setup);
  lab.fault(1, "hang");
  const auto start_waits = [&](const char* node) {
    std::vector<std::string> argv = {PETREL_TRAFFIC_BINARY, "client", "--json", "--target",
                                     target(lab, 1, Family::kV4)};
    argv.insert(argv.end(), kFewWaits.begin(), kFewWaits.end());
    return &lab.start(node, argv);
  };
  const auto waits = [&] { return lab.status().sum("inflight"); };
  const auto settle = [&](double more_than) {
    lab.eventually("requests wait", [&](const Status& s) { return s.sum("inflight") > more_than + 5; });
    const double ticks = lab.status().number("/loop/ticks");
    lab.eventually("all are sent", [&](const Status& s) {
      return s.number("/loop/ticks") > ticks + 12;
    });
  };
  Process* lives = start_waits("lb");
  settle(0);
  const double here = waits();
  Process* elsewhere = start_waits("client");
  settle(here);
  const double living = waits();
  Process* dies = start_waits("lb");
  settle(living);
  const double dying = waits() - living;
  EXPECT_EQ(lab.status().number("/audit/unaccounted"), 0);

  agent.send(SIGTERM);
  agent.wait();
  dies->send(SIGKILL);
  dies->wait();
  lab.start_agent(setup);
  const Status status = lab.eventually("an audit of what is old", [&](const Status& s) {
    return s.number("/audit/unaccounted") > 0;
  }, 20s);
  EXPECT_EQ(status.number("/audit/unaccounted"), dying + living - here);
  EXPECT_EQ(status.sum("inflight"), dying + living);

  for (Process* client : {lives, elsewhere}) {  // seen: the sensor is there
    client->send(SIGKILL);
    client->wait();
  }
  lab.eventually("only the unaccounted ones are held in flight", [&](const Status& s) {
    return s.sum("inflight") == dying && s.sum("waiting") == 0 &&
           s.number("/audit/unaccounted") == dying;
  }, 20s);
}

//   client ── lb (HAProxy) ─┬─ b1    the agent and the proxy on one host
//                           └─ b2
using ProxyTest = LabTest;

TEST_F(ProxyTest, ItsSocketsTellOfTheBackendsBehindIt) {
  if (run({"sh", "-c", "command -v haproxy"}).exit_code != 0) GTEST_SKIP() << "no haproxy";
  Lab lab({.backends = 2});
  lab.start_agent(at("client"));
  const std::string b1 = lab.backend_address(1);  // 10.N.1.2; lb is 10.N.0.1 to the client
  const std::string front = b1.substr(0, b1.find('.', 3)) + ".0.1:9000";
  std::ofstream(lab.path("haproxy.cfg"))
      << "defaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\n"
      << "listen web\n  bind " << front << "\n  server b1 " << target(lab, 1, Family::kV4)
      << "\n  server b2 " << target(lab, 2, Family::kV4) << "\n";
  lab.start("lb", {"haproxy", "-db", "-f", lab.path("haproxy.cfg")});
  lab.await_listener("lb", 9000);
  Process& client = lab.start("client", {PETREL_TRAFFIC_BINARY, "client", "--json", "--target", front,
                                         "--rate", "80", "--duration", "2"});
  const Summary summary = lab.await_client(client);
  ASSERT_EQ(summary.failed(), 0) << summary.outcomes();
  lab.eventually("all requests are answered", [&](const Status& s) {
    return s.sum("wire/answers") == summary.attempts();
  });
  const Status status = settled(lab);
  EXPECT_EQ(status.sum("wire/status_2xx"), summary.attempts());
  EXPECT_EQ(status.backend(1, "wire/answers"), status.backend(2, "wire/answers"));
  EXPECT_EQ(status.sum("waiting"), 0);
}

}  // namespace
}  // namespace petrel::test
