// SPDX-License-Identifier: MIT
// What is read from a running petrel's maps: `where` says where connections go before they are
// made, `check --diff` what a configuration would change, `status --drops` how packets left.
//
//   client (connects from chosen ports) ── lb ─┬─ b1
//                                              ├─ b2
//                                              └─ b3
#include <boost/json.hpp>
#include <csignal>
#include <fstream>
#include <map>
#include <sstream>

#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

// A connection's backend is then its slot's.
constexpr const char* kRingOnly = "two_choices = false\nsteer_retries = false\n";

// Connects from each ADDRESS:PORT given, says so, and keeps the connections.
constexpr const char* kConnect = R"(
import socket, sys, time
kept = []
for end in sys.argv[3:]:
    host, port = end.rsplit(':', 1)
    s = socket.socket(socket.AF_INET6 if host[0] == '[' else socket.AF_INET)
    s.bind((host.strip('[]'), int(port)))
    s.settimeout(5)
    s.connect((sys.argv[1], int(sys.argv[2])))
    kept.append(s)
print('connected', flush=True)
time.sleep(300)
)";

using Backends = std::map<std::string, std::string>;  // by client's end; "": none

class WhereTest : public LabTest {
 protected:
  // Clients have 10.ID.128.0/17 and fd00:ID:ffff::/64; see scripts/lib/lab_state.sh.
  static std::string client_address(const Lab& lab, int number, Family family = Family::kV4) {
    const std::string vip = lab.vip(family);
    const char dot = family == Family::kV4 ? '.' : ':';
    const std::string net = vip.substr(0, vip.find(dot, vip.find(dot) + 1));
    return family == Family::kV4 ? net + ".128." + std::to_string(number)
                                 : "[" + net + ":ffff::" + std::to_string(number) + "]";
  }
  // The service that a client of this end connects to.
  static std::string vip_of(const Lab& lab, const std::string& end) {
    return lab.vip(end[0] == '[' ? Family::kV6 : Family::kV4);
  }
  static std::string asked(const Lab& lab, const std::string& end) {
    const std::string vip = vip_of(lab, end);
    return (end[0] == '[' ? "[" + vip + "]" : vip) + ":80";
  }

  // `petrel where` for each end, in one shell: what the pointer names in each answer.
  static Backends ask(const Lab& lab, const std::vector<std::string>& ends,
                      const std::string& pointer) {
    std::string script;
    for (const std::string& end : ends) {
      script += std::string(PETREL_BINARY) + " where --json -c " + lab.config_path() + " " + end +
                " " + asked(lab, end) + "\n";
    }
    const Finished done = lab.run_on("lb", {"sh", "-ec", script}, 60s);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    std::istringstream lines(done.out);
    Backends backends;
    for (const std::string& end : ends) {
      std::string line;
      std::getline(lines, line);
      const Facts facts(line);
      backends[end] = facts.at(pointer).is_null() ? "" : facts.text(pointer + "/name");
    }
    return backends;
  }

  // Whose sockets the clients' ends are connected to: what the backends' kernels say.
  static Backends connected(const Lab& lab) {
    Backends backends;
    for (int number = 1; number <= lab.backends(); ++number) {
      const std::string name = "b" + std::to_string(number);
      const Finished list = lab.run_on(
          name, {"ss", "-Htn", "state", "established", "( sport = :8080 )"});
      std::istringstream lines(list.out);
      std::string receive, send, local, peer;
      while (lines >> receive >> send >> local >> peer) backends[peer] = name;
    }
    return backends;
  }

  static void connect(Lab& lab, const std::vector<std::string>& ends) {
    std::vector<std::string> argv = {"python3", "-c", kConnect, vip_of(lab, ends[0]), "80"};
    argv.insert(argv.end(), ends.begin(), ends.end());
    Process& clients = lab.start("client", argv);
    await("the clients are connected", [&] {
      if (!clients.running()) throw std::runtime_error("connect: " + clients.err());
      return !clients.out().empty();
    }, 30s);
  }

  // What would be, what is by the maps, and what is by the backends: all the same.
  static Backends expect_as_predicted(Lab& lab, const std::vector<std::string>& ends) {
    for (const auto& [end, has] : ask(lab, ends, "/has")) EXPECT_EQ(has, "") << end;
    const Backends predicted = ask(lab, ends, "/placement/backend");
    connect(lab, ends);
    EXPECT_EQ(ask(lab, ends, "/has"), predicted);
    const Backends kernels = connected(lab);
    for (const auto& [end, backend] : predicted) {
      const auto found = kernels.find(end);
      EXPECT_EQ(found == kernels.end() ? "" : found->second, backend) << end;
    }
    return predicted;
  }

  static std::vector<std::string> ports(const Lab& lab, int count, Family family = Family::kV4) {
    std::vector<std::string> ends;
    for (int i = 0; i < count; ++i) {
      ends.push_back(client_address(lab, 7, family) + ":" + std::to_string(20000 + i));
    }
    return ends;
  }

  // The first of the ends that would go to the backend.
  static std::string end_of(const Backends& backends, const std::string& name) {
    for (const auto& [end, backend] : backends) {
      if (backend == name) return end;
    }
    throw std::runtime_error("no end goes to " + name);
  }

  static std::size_t count(const Backends& backends, const std::string& name) {
    std::size_t sum = 0;
    for (const auto& [end, backend] : backends) sum += backend == name;
    return sum;
  }
};

TEST_F(WhereTest, SaysBeforehandWhereTwoHundredConnectionsGo) {
  Lab lab;
  lab.start_agent({.service_lines = kRingOnly});
  const Backends backends = expect_as_predicted(lab, ports(lab, 200));
  for (const char* name : {"b1", "b2", "b3"}) EXPECT_GT(count(backends, name), 30u) << name;
}

TEST_F(WhereTest, SaysItOfIpv6) {
  Lab lab({.families = {Family::kV6}});
  lab.start_agent({.service_lines = kRingOnly});
  const Backends backends = expect_as_predicted(lab, ports(lab, 40, Family::kV6));
  EXPECT_GT(count(backends, "b1"), 3u);
}

TEST_F(WhereTest, SaysThatARetryIsSteeredAndWhereTo) {
  Lab lab;
  lab.start_agent({.service_lines = "two_choices = false\nmask_refusals = false\n"});
  Backends slots = ask(lab, ports(lab, 30), "/placement/slot_backend");
  EXPECT_EQ(ask(lab, ports(lab, 30), "/placement/backend"), slots) << "not before it has failed";
  const std::string first = end_of(slots, "b1");
  slots.erase(first);
  const std::string second = end_of(slots, "b1");

  lab.fault(1, "refuse");
  const Finished refused =
      lab.run_on("client", {"python3", "-c", kConnect, lab.vip(), "80", first});
  EXPECT_NE(refused.err.find("ConnectionRefused"), std::string::npos) << refused.err;
  const auto where = [&] {
    return Facts(
        lab.petrel({"where", "--json", "-c", lab.config_path(), second, asked(lab, second)}).out);
  };
  const Facts before = where();
  EXPECT_EQ(before.text("/placement/retry/failed_backend/name"), "b1");
  EXPECT_EQ(before.text("/placement/retry/failure"), "refused");
  EXPECT_EQ(before.number("/placement/retry/attempt"), 2);
  connect(lab, {second});
  const Facts after = where();
  EXPECT_NE(after.text("/has/name"), "b1");
  EXPECT_EQ(after.number("/connection/attempt"), 2);
  // The agent takes b1 out by and by: a ring that has moved this slot meanwhile has nothing to steer.
  if (after.text("/placement/slot_backend/name") == "b1") {
    EXPECT_EQ(after.text("/has/name"), before.text("/placement/backend/name"));
    EXPECT_EQ(after.text("/connection/why/0"), "steered");
  }
}

TEST_F(WhereTest, NamesTheNextBackendOfASynThatIsNotAnswered) {
  Lab lab;
  lab.start_agent({.service_lines = kRingOnly});
  const std::string end = end_of(ask(lab, ports(lab, 30), "/placement/backend"), "b2");
  lab.fault(2, "blackhole");
  Process& client = lab.start("client", {"python3", "-c", kConnect, lab.vip(), "80", end});
  const auto where = [&] {
    return Facts(
        lab.petrel({"where", "--json", "-c", lab.config_path(), end, asked(lab, end)}).out);
  };
  await("its SYN is known", [&] { return !where().at("/half_open").is_null(); });
  const Facts waiting = where();
  EXPECT_EQ(waiting.text("/half_open/state"), "syn");
  EXPECT_EQ(waiting.text("/has/name"), "b2");
  await("it is connected", [&] { return !client.out().empty(); });
  const Facts after = where();
  EXPECT_EQ(after.text("/connection/why/0"), "failed_over");
  EXPECT_NE(after.text("/has/name"), "b2");
  // A SYN that waits is a risk: a ring that moved for it meanwhile may have another next backend.
  if (lab.status().service("moved_slots") == 0) {
    EXPECT_EQ(after.text("/has/name"), waiting.text("/half_open/next/backend/name"));
  }
}

TEST_F(WhereTest, SaysItOfClientsWithAffinity) {
  Lab lab;
  lab.start_agent({.service_lines = "affinity = \"client\"\n"});
  std::vector<std::string> ends;
  for (int i = 1; i <= 30; ++i) {
    ends.push_back(client_address(lab, i) + ":30000");
    ends.push_back(client_address(lab, i) + ":30001");
  }
  const Backends backends = expect_as_predicted(lab, ends);
  for (std::size_t i = 0; i < ends.size(); i += 2) {
    EXPECT_EQ(backends.at(ends[i]), backends.at(ends[i + 1])) << ends[i];
  }
  EXPECT_LT(count(backends, "b1"), ends.size());
}

TEST_F(WhereTest, FollowsTheRingInForceAndNotTheNeutralOne) {
  Lab lab;
  lab.start_agent({.service_lines = kRingOnly});
  Process& client = lab.start_client({"--rate", "120", "--duration", "60", "--clients", "4000",
                                      "--timeout-ms", "500", "--retry", "immediate"});
  lab.fault(2, "refuse");
  lab.eventually("b2 is out", [](const Status& s) { return s.factor(2) == 0; });
  client.stop(SIGTERM);
  const auto ends = ports(lab, 60);
  EXPECT_GT(count(ask(lab, ends, "/placement/neutral_slot_backend"), "b2"), 5u);
  EXPECT_EQ(count(expect_as_predicted(lab, ends), "b2"), 0u);
}

TEST_F(WhereTest, SaysThatTheAgentIsSilent) {
  Lab lab;
  lab.start_agent({.agent_lines = "heartbeat_limit_ms = 1000"}).stop(SIGKILL);
  const std::string end = client_address(lab, 7) + ":20000";
  await("the heartbeat is too old", [&] {
    return Facts(lab.petrel({"where", "--json", "-c", lab.config_path(), end, lab.vip() + ":80"})
                     .out)
        .flag("/agent/silent");
  });
  const Facts answer(
      lab.petrel({"where", "--json", "-c", lab.config_path(), end, lab.vip() + ":80"}).out);
  EXPECT_EQ(answer.text("/placement/ring"), "neutral");
  connect(lab, {end});
  const Facts has(
      lab.petrel({"where", "--json", "-c", lab.config_path(), end, lab.vip() + ":80"}).out);
  EXPECT_EQ(has.text("/has/name"), answer.text("/placement/backend/name"));
  EXPECT_EQ(has.text("/connection/why/0"), "neutral");
}

TEST_F(WhereTest, ExitCodesTellWhatIsWrong) {
  Lab lab;
  const auto code = [&](const std::string& client, const std::string& asked) {
    return lab.petrel({"where", client, asked, "--pin-path", lab.pin_path()}).exit_code;
  };
  const std::string client = client_address(lab, 7) + ":20000";
  EXPECT_EQ(code(client, lab.vip() + ":80"), 6) << "nothing is pinned";
  lab.start_agent();
  EXPECT_EQ(code(client, lab.vip() + ":80"), 0);
  EXPECT_EQ(code(client, lab.vip() + ":81"), 8);
  EXPECT_EQ(code(client, lab.backend_address(1) + ":8080"), 8);
  EXPECT_EQ(code("nobody:20000", lab.vip() + ":80"), 3);
  EXPECT_EQ(code(client, lab.vip()), 3);
  EXPECT_EQ(code("[fd00::1]:20000", lab.vip() + ":80"), 3);
}

// --- check --diff ------------------------------------------------------------------------------

class DiffTest : public LabTest {
 protected:
  static std::string read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // `check --diff --json` with the running configuration, one part of it replaced.
  static Finished diff(Lab& lab, const std::string& part = "", const std::string& by = "") {
    std::string text = read(lab.config_path());
    if (!part.empty()) text.replace(text.find(part), part.size(), by);
    const std::string path = lab.path("other.toml");
    std::ofstream(path) << text;
    return lab.petrel({"check", "--diff", "--json", "-c", path});
  }
};

TEST_F(DiffTest, WhatIsInForceDoesNotDiffer) {
  Lab lab({.families = {Family::kV4, Family::kV6}});
  lab.start_agent({.service_lines = "max_inflight = 500\non_removal = \"move\"\n"});
  const Finished same = diff(lab);
  EXPECT_EQ(same.exit_code, 0) << same.out << same.err;
  EXPECT_FALSE(Facts(same.out).flag("/differs"));
}

TEST_F(DiffTest, ARemovedBackendMovesItsShareAlone) {
  Lab lab;
  lab.start_agent();
  const std::string config = read(lab.config_path());
  const auto begin = config.rfind("[[service.backend]]");
  const Finished removed = diff(lab, config.substr(begin), "");
  EXPECT_EQ(removed.exit_code, 4) << removed.err;
  const Facts facts(removed.out);
  EXPECT_EQ(facts.text("/services/0/backends/0/change"), "removed");
  EXPECT_EQ(facts.text("/services/0/backends/0/name"), "b3");
  EXPECT_GT(facts.number("/services/0/ring/moved_share"), 0.3);
  EXPECT_FALSE(Facts(diff(lab).out).flag("/differs")) << "it changes nothing";
}

TEST_F(DiffTest, FieldsAreNamedWithBothValues) {
  Lab lab;
  lab.start_agent({.service_lines = "max_inflight = 500\n"});
  const Facts facts(diff(lab, "max_inflight = 500\n", "max_inflight = 0\nfailover = false\n").out);
  EXPECT_EQ(facts.text("/services/0/fields/0/field"), "failover");
  EXPECT_EQ(facts.text("/services/0/fields/0/from"), "true");
  EXPECT_EQ(facts.text("/services/0/fields/1/field"), "max_inflight");
  EXPECT_EQ(facts.text("/services/0/fields/1/to"), "no limit");
  EXPECT_EQ(facts.number("/services/0/ring/moved_share"), 0);
}

TEST_F(DiffTest, ExitCodesTellWhatIsWrong) {
  Lab lab;
  lab.start_agent().stop(SIGTERM);
  EXPECT_EQ(diff(lab).exit_code, 6);
  EXPECT_EQ(diff(lab, "interfaces", "interfoces").exit_code, 3);
}

// --- status --drops -----------------------------------------------------------------------------

TEST_F(LabTest, DropsAreCountedByServiceWithTheirMeaning) {
  Lab lab;
  lab.start_agent();
  Process& client = lab.start_client({"--rate", "100", "--duration", "60"});
  lab.eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 50; });
  const Finished grown = lab.petrel(
      {"status", "-s", lab.socket(), "--drops", "--service", "web", "--interval", "1", "--json"});
  ASSERT_EQ(grown.exit_code, 0) << grown.err;
  const Facts facts(grown.out);
  EXPECT_EQ(facts.text("/services/0/verdicts/0/name"), "forwarded");
  EXPECT_NEAR(facts.number("/services/0/notes/0/count"), 100, 50) << "miss_syn, in a second";
  lab.end_client(client);
  const Finished table = lab.petrel({"status", "-s", lab.socket(), "--drops"});
  EXPECT_NE(table.out.find("sent to a backend"), std::string::npos);
  EXPECT_NE(table.out.find("of no service"), std::string::npos);
  EXPECT_EQ(table.out.find("over_budget"), std::string::npos) << "what never happened";
  EXPECT_EQ(lab.petrel({"status", "-s", lab.socket(), "--drops", "--service", "x"}).exit_code, 2);
}

}  // namespace
}  // namespace petrel::test
