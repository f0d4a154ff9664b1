// SPDX-License-Identifier: MIT
// Backends that leave: drained by order or by the file, and removed from it.
//
//   client ── lb ─┬─ b1   leaves
//                 ├─ b2
//                 └─ b3
#include <csignal>

#include "tests/lab/config_file.hpp"
#include "tests/lab/lab_fixture.hpp"
#include "tests/lab/lasting.hpp"

namespace petrel::test {
namespace {

using DrainTest = LabTest;

const LabOptions kQuick = {.service_time_ms = 1, .distribution = "constant"};

// New connections of a second; how many of them b1 got.
double new_at_b1(Lab& lab) {
  const double before = lab.status().backend(1, "wire/connections");
  EXPECT_EQ(lab.await_client(lab.start_client({"--rate", "150", "--duration", "1"})).failed(), 0);
  return lab.status().backend(1, "wire/connections") - before;
}

TEST_F(DrainTest, ADrainedBackendKeepsItsConnectionsAndGetsNoNewOne) {
  Lab lab(kQuick);
  const AgentSetup setup = {.arguments = {"--keep"}};
  lab.start_agent(setup);
  Lasting clients(lab);
  clients.mark();
  const Finished done = lab.petrel({"drain", "b1", "-s", lab.socket(), "--deadline", "60"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(new_at_b1(lab), 0);
  const Status status = lab.status();
  EXPECT_EQ(status.backend_text(1, "reason"), "draining");
  EXPECT_EQ(status.backend_text(1, "drain/state"), "draining");
  EXPECT_GT(status.backend(1, "drain/connections"), 0);
  EXPECT_NEAR(status.backend(1, "drain/left_s"), 58, 3);
  EXPECT_EQ(status.backend(1, "share"), 0);

  // The next agent knows of it.
  EXPECT_EQ(lab.agent().stop(SIGTERM), 0);
  lab.start_agent(setup);
  EXPECT_EQ(lab.status().backend_text(1, "drain/state"), "draining");
  EXPECT_LT(lab.status().backend(1, "drain/left_s"), 59);
  EXPECT_EQ(new_at_b1(lab), 0);

  EXPECT_EQ(lab.petrel({"drain", "b1", "-s", lab.socket(), "--undo"}).exit_code, 0);
  EXPECT_GT(new_at_b1(lab), 20);
  const Summary summary = clients.end();
  EXPECT_EQ(summary.failed(), 0) << summary.outcomes();
  EXPECT_GT(clients.survivors()["b1"], 0);
  lab.petrel({"detach", "-c", lab.config_path()});
}

TEST_F(DrainTest, TheFileDrainsAndTakesItBack) {
  Lab lab(kQuick);
  lab.start_agent();
  ConfigFile config = ConfigFile::read(lab.config_path());
  const std::string b1 = config.backends[0];
  config.backends[0] += "drain = true\n";
  config.write(lab.config_path());
  EXPECT_EQ(lab.petrel({"reload", "-s", lab.socket()}).exit_code, 0);
  EXPECT_EQ(new_at_b1(lab), 0);
  config.backends[0] = b1;
  config.write(lab.config_path());
  EXPECT_EQ(lab.petrel({"reload", "-s", lab.socket()}).exit_code, 0);
  EXPECT_GT(new_at_b1(lab), 20);
}

// b1 is taken out of the file, and has a second.
void remove_b1(Lab& lab, Lasting& clients) {
  ConfigFile config = ConfigFile::read(lab.config_path());
  config.backends.erase(config.backends.begin());
  config.write(lab.config_path());
  clients.mark();
  EXPECT_EQ(lab.petrel({"reload", "-s", lab.socket()}).exit_code, 0);
  const Status status = lab.status();
  EXPECT_EQ(status.backend_text(3, "name"), "b1");
  EXPECT_TRUE(status.flag("/services/0/backends/2/drain/leaving"));
}

// Once no connection names it.
void await_free_id(Lab& lab) {
  lab.eventually("b1's id is free", [](const Status& s) {
    return s.at("/services/0/backends").as_array().size() == 2;
  });
}

TEST_F(DrainTest, ARemovedBackendsConnectionsAreResetAtTheDeadline) {
  Lab lab(kQuick);
  lab.start_agent({.service_lines = "drain_deadline_s = 1\n"});
  Lasting clients(lab);
  remove_b1(lab, clients);
  lab.eventually("flows of b1 are reset",
                 [](const Status& s) { return s.number("/verdicts/gone_reset") > 0; });
  EXPECT_EQ(lab.status().backend_text(3, "drain/state"), "removed");
  clients.await_more(50);
  const Summary summary = clients.end();
  EXPECT_GT(summary.ended("reset"), 0) << summary.outcomes();
  EXPECT_EQ(summary.failed(), summary.ended("reset")) << summary.outcomes();
  // Until the deadline they went on, and the others do still.
  const auto survivors = clients.survivors();
  for (const char* backend : {"b1", "b2", "b3"}) {
    EXPECT_GT(survivors.count(backend), 0u) << backend;
  }
  await_free_id(lab);
}

TEST_F(DrainTest, ARemovedBackendsConnectionsAreMovedWhereTheServiceSaysSo) {
  Lab lab(kQuick);
  lab.start_agent({.service_lines = "drain_deadline_s = 1\non_removal = \"move\"\n"});
  Lasting clients(lab);
  remove_b1(lab, clients);
  // Not asked: gone_reset. What b1 itself still says of a flow is answered with a RST to b1.
  lab.eventually("flows of b1 are moved",
                 [](const Status& s) { return s.number("/verdicts/gone_moved") > 0; });
  clients.await_more(50);
  clients.end();  // a TCP backend does not know the middle of another's connection: it resets it
  await_free_id(lab);
}

TEST_F(DrainTest, ARemovedServiceLeavesNothing) {
  Lab lab({.service_time_ms = 1, .distribution = "constant", .families = {Family::kV4, Family::kV6}});
  lab.start_agent({.service_lines = "drain_deadline_s = 0\n"});
  ConfigFile config = ConfigFile::read(lab.config_path());
  config.tail.clear();  // web6
  config.write(lab.config_path());
  EXPECT_EQ(lab.petrel({"reload", "-s", lab.socket()}).exit_code, 0);
  lab.eventually("web6 has gone", [](const Status& s) {
    return s.at("/services").as_array().size() == 1;
  });
  EXPECT_EQ(lab.await_client(lab.start_client({"--rate", "100", "--duration", "1"})).failed(), 0);
}

TEST_F(DrainTest, AnUnknownBackendIsRefused) {
  Lab lab({.backends = 1});
  lab.start_agent();
  const Finished done = lab.petrel({"drain", "b9", "-s", lab.socket()});
  EXPECT_EQ(done.exit_code, 2);
  EXPECT_NE(done.err.find("no backend is called b9"), std::string::npos) << done.err;
}

TEST_F(DrainTest, ABudgetIsReadAndSet) {
  Lab lab({.backends = 1});
  lab.start_agent();
  const auto budget = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"budget", "web", "-s", lab.socket(), "--json"});
    const Finished done = lab.petrel(more);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return Facts(done.out);
  };
  EXPECT_EQ(budget({}).number("/services/0/min_per_s"), 10);
  const Facts set = budget({"--tokens", "0", "--min-per-s", "2", "--burst-s", "20"});
  EXPECT_EQ(set.number("/services/0/min_per_s"), 2);
  EXPECT_EQ(set.number("/services/0/burst"), 40);
  EXPECT_LT(set.number("/services/0/tokens"), 1);
  // It fills at its rate.
  std::this_thread::sleep_for(1s);
  EXPECT_NEAR(budget({}).number("/services/0/tokens"), 2, 1);
}

TEST_F(DrainTest, ATapComesAndGoesWithItsClient) {
  Lab lab({.backends = 1});
  lab.start_agent();
  Process& client = lab.start_client({"--rate", "100", "--duration", "60"});
  const Finished tapped = lab.petrel({"tap", "-s", lab.socket(), "--count", "5", "--json"});
  EXPECT_EQ(tapped.exit_code, 0) << tapped.err;
  EXPECT_NE(tapped.out.find("forwarded"), std::string::npos) << tapped.out;
  lab.eventually("the first one has ended", [](const Status& s) { return !s.flag("/loop/tapping"); });
  Process& vanishing = lab.start_petrel({"tap", "-s", lab.socket()});
  lab.eventually("it taps", [](const Status& s) { return s.flag("/loop/tapping"); });
  EXPECT_NE(lab.petrel({"tap", "-s", lab.socket(), "--count", "1"}).exit_code, 0) << "one at a time";
  vanishing.stop(SIGKILL);
  lab.eventually("it taps no longer", [](const Status& s) { return !s.flag("/loop/tapping"); });
  EXPECT_EQ(lab.xdp_programs(), 2);
  EXPECT_EQ(lab.end_client(client).failed(), 0);
}

}  // namespace
}  // namespace petrel::test
