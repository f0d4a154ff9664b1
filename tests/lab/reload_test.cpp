// SPDX-License-Identifier: MIT
// Another configuration while traffic flows: what is connected stays where it is.
//
//   client ── lb ─┬─ b1   the file is rewritten, then read again by `petrel reload`, SIGHUP, or the
//          agent ─┼─ b2   next agent
//                 └─ b3
#include <algorithm>
#include <csignal>

#include "tests/lab/config_file.hpp"
#include "tests/lab/lab_fixture.hpp"
#include "tests/lab/lasting.hpp"

namespace petrel::test {
namespace {

using ReloadTest = LabTest;

const LabOptions kQuick = {.service_time_ms = 1, .distribution = "constant"};

Finished reload(Lab& lab) { return lab.petrel({"reload", "-s", lab.socket()}); }

// No request failed, no connection met two backends, and each backend of these kept some.
void expect_unbroken(Lasting& clients, const std::vector<std::string>& backends) {
  const Summary summary = clients.end();
  EXPECT_EQ(summary.failed(), 0) << summary.outcomes();
  for (const auto& [connection, met] : clients.backends_of_connection()) {
    EXPECT_EQ(met.size(), 1u) << connection;
  }
  const auto survivors = clients.survivors();
  for (const std::string& backend : backends) EXPECT_GT(survivors.count(backend), 0u) << backend;
}

// More services than the first maps have room for, on ports where nobody listens.
std::string many_services(const std::string& config_head, Lab& lab, int count) {
  const std::size_t at = config_head.find("address = ", config_head.find("[[service]]"));
  const std::string address = config_head.substr(at, config_head.find('\n', at) - at);
  std::string text;
  for (int i = 1; i <= count; ++i) {
    text += "[[service]]\nname = \"more" + std::to_string(i) + "\"\n" + address +
            "\nport = " + std::to_string(1000 + i) + "\n";
    for (int b = 1; b <= lab.backends(); ++b) {
      text += "[[service.backend]]\nname = \"b" + std::to_string(b) + "\"\naddress = \"" +
              lab.backend_address(b) + "\"\nport = " + std::to_string(9000 + i) + "\n";
    }
  }
  return text;
}

TEST_F(ReloadTest, ReorderedLinesAndOtherWeightsBreakNothing) {
  Lab lab(kQuick);
  lab.start_agent();
  const double id_of_b1 = lab.status().backend(1, "id");
  Lasting clients(lab);
  ConfigFile config = ConfigFile::read(lab.config_path());
  std::rotate(config.backends.begin(), config.backends.begin() + 1, config.backends.end());
  config.backends.front() += "weight = 300\n";  // b2
  config.write(lab.config_path());
  clients.mark();
  const Finished done = reload(lab);
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.out.find("backend b2: weight 100 -> 300"), std::string::npos) << done.out;
  clients.await_more(100);

  const Status status = lab.status();
  EXPECT_EQ(status.backend_text(3, "name"), "b1");
  EXPECT_EQ(status.backend(3, "id"), id_of_b1);
  EXPECT_GT(status.backend(1, "share"), 0.5);
  EXPECT_FALSE(status.flag("/loop/took_over"));
  expect_unbroken(clients, {"b1", "b2", "b3"});
}

TEST_F(ReloadTest, AnAddedBackendTakesItsShareOfNewConnections) {
  Lab lab(kQuick);
  AgentSetup setup;
  lab.start_agent(setup);
  ConfigFile config = ConfigFile::read(lab.config_path());
  const std::string b2 = config.backends[1];
  lab.agent().stop(SIGTERM);
  config.backends.erase(config.backends.begin() + 1);
  config.write(lab.config_path());
  Process& agent = lab.start_petrel({"agent", "-c", lab.config_path()});
  await("the agent serves", [&] { return lab.petrel({"status", "-s", lab.socket()}).exit_code == 0; });

  Lasting clients(lab);
  config.backends.insert(config.backends.begin(), b2);
  config.write(lab.config_path());
  clients.mark();
  agent.send(SIGHUP);
  lab.eventually("b2 is there", [](const Status& s) { return s.backend_text(1, "name") == "b2"; });
  Process& more = lab.start_client({"--rate", "150", "--duration", "1"});
  EXPECT_EQ(lab.await_client(more).failed(), 0);
  const Status status = lab.status();
  EXPECT_NEAR(status.backend(1, "share"), 1.0 / 3, 0.01);
  EXPECT_GT(status.backend(1, "wire/connections"), 20);
  expect_unbroken(clients, {"b1", "b3"});
  EXPECT_EQ(agent.stop(SIGTERM), 0);
  EXPECT_EQ(lab.leftovers(), "");
}

TEST_F(ReloadTest, MapsGrowWithoutLosingAFlow) {
  Lab lab(kQuick);
  lab.start_agent();
  Lasting clients(lab);
  const Status before = lab.status();
  ConfigFile config = ConfigFile::read(lab.config_path());
  config.tail += many_services(config.head, lab, 16);
  config.write(lab.config_path());
  clients.mark();
  const Finished done = lab.petrel({"reload", "-s", lab.socket(), "--json"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_TRUE(Facts(done.out).flag("/programs_replaced"));
  EXPECT_EQ(lab.xdp_programs(), 4);
  clients.await_more(100);
  const Status after = lab.status();
  EXPECT_EQ(after.at("/services").as_array().size(), 17u);
  EXPECT_GT(after.sum("wire/answers"), before.sum("wire/answers") + 90);
  EXPECT_EQ(after.number("/verdicts/adopted"), 0);
  expect_unbroken(clients, {"b1", "b2", "b3"});
  // What waited during the change is neither lost count of nor counted twice.
  lab.eventually("nothing is in flight", [](const Status& s) {
    return s.sum("inflight") == 0 && s.sum("waiting") == 0 && s.sum("waiting_syn") == 0;
  });
}

TEST_F(ReloadTest, ARestartWithAnotherFileBreaksNothing) {
  Lab lab(kQuick);
  const AgentSetup setup = {.arguments = {"--keep"}};
  lab.start_agent(setup);
  Lasting clients(lab);
  EXPECT_EQ(lab.agent().stop(SIGTERM), 0);
  ConfigFile config = ConfigFile::read(lab.config_path());
  std::swap(config.backends[0], config.backends[2]);
  // Another service comes first, so that no line is where it was, and the maps are too small.
  const std::size_t at = config.head.find("[[service]]");
  config.head.insert(at, many_services(config.head, lab, 16));
  config.write(lab.config_path());
  clients.mark();
  Process& second = lab.start_petrel({"agent", "-c", lab.config_path()});
  await("the agent serves", [&] { return lab.petrel({"status", "-s", lab.socket()}).exit_code == 0; });
  clients.await_more(100);
  const Status status = lab.status();
  EXPECT_TRUE(status.flag("/loop/took_over"));
  EXPECT_EQ(status.number("/verdicts/adopted"), 0);
  expect_unbroken(clients, {"b1", "b2", "b3"});
  EXPECT_EQ(second.stop(SIGTERM), 0);
  EXPECT_EQ(lab.leftovers(), "");
}

TEST_F(ReloadTest, ABadFileChangesNothing) {
  Lab lab(kQuick);
  lab.start_agent();
  Lasting clients(lab);
  ConfigFile config = ConfigFile::read(lab.config_path());
  config.backends[0] += "weight = 70000\n";
  config.backends.pop_back();
  config.write(lab.config_path());
  clients.mark();
  const Finished done = reload(lab);
  EXPECT_EQ(done.exit_code, 3);
  EXPECT_NE(done.err.find(lab.config_path() + ":"), std::string::npos) << done.err;
  EXPECT_NE(done.err.find("service[0].backend[0].weight"), std::string::npos) << done.err;
  EXPECT_NE(lab.agent().err().find("service[0].backend[0].weight"), std::string::npos);

  // Nor does a model that cannot be read, though the file is good.
  config.backends[0] = ConfigFile::read(lab.config_path()).backends[0];
  config.backends[0].erase(config.backends[0].find("weight"));
  const std::size_t model = config.head.find("model = \"");
  config.head.replace(model, 9, "model = \"/nowhere");
  config.write(lab.config_path());
  EXPECT_EQ(reload(lab).exit_code, 3);

  clients.await_more(50);
  const Status status = lab.status();
  EXPECT_EQ(status.at("/services/0/backends").as_array().size(), 3u);
  EXPECT_EQ(status.backend(1, "base_weight"), 100);
  EXPECT_EQ(status.number("/loop/reloads"), 0);
  expect_unbroken(clients, {"b1", "b2", "b3"});
}

TEST_F(ReloadTest, WhatNeedsAStartIsSaid) {
  Lab lab(kQuick);
  lab.start_agent();
  ConfigFile config = ConfigFile::read(lab.config_path());
  config.head.insert(config.head.find("model ="), "max_connections = 4096\n");
  config.write(lab.config_path());
  const Finished done = reload(lab);
  EXPECT_EQ(done.exit_code, 4);
  EXPECT_NE(done.err.find("max_connections takes effect"), std::string::npos) << done.err;
}

}  // namespace
}  // namespace petrel::test
