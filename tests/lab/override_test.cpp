// SPDX-License-Identifier: MIT
// Weights by hand in a running agent: in force, shown, over in time, and over a restart.
//
//   client ── lb ─┬─ b1
//                 ├─ b2   in some cases answers all with 503
//                 └─ b3
#include <csignal>
#include <fstream>
#include <thread>

#include "tests/lab/config_file.hpp"
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

const LabOptions kQuick = {.service_time_ms = 1, .distribution = "constant"};

class OverrideTest : public LabTest {
 protected:
  static Finished petrel(Lab& lab, std::vector<std::string> arguments, int exit_code = 0) {
    arguments.insert(arguments.end(), {"-s", lab.socket()});
    const Finished done = lab.petrel(arguments);
    EXPECT_EQ(done.exit_code, exit_code) << done.out << done.err;
    return done;
  }
  // Shares of a second's new connections, by backend from 1.
  static std::vector<double> shares(Lab& lab) {
    std::vector<double> before(4), out(4);
    const Status first = lab.status();
    for (int i : {1, 2, 3}) before[i] = first.backend(i, "wire/connections");
    EXPECT_EQ(lab.await_client(lab.start_client({"--rate", "300", "--duration", "2"})).failed(), 0);
    const Status second = lab.status();
    double sum = 0;
    for (int i : {1, 2, 3}) sum += out[i] = second.backend(i, "wire/connections") - before[i];
    for (double& share : out) share /= sum;
    return out;
  }
  static std::size_t overrides(const Status& status) {
    return status.at("/services/0/overrides").as_array().size();
  }
};

TEST_F(OverrideTest, AWeightByHandIsInForceInShadowTooAndOverRestarts) {
  Lab lab(kQuick);
  const AgentSetup setup = {.mode = "shadow", .arguments = {"--keep"}};
  lab.start_agent(setup);
  petrel(lab, {"weight", "web", "b1", "20%", "--reason", "canary"});
  petrel(lab, {"weight", "web", "b3", "0%"});
  const Status set = lab.status();
  EXPECT_NEAR(set.factor(1), 0.2, 1e-4);
  EXPECT_EQ(set.backend_text(1, "reason"), "by_hand");
  EXPECT_EQ(set.text("/services/0/overrides/0/reason"), "canary");
  EXPECT_EQ(set.number("/services/0/overrides/0/uid"), 0);
  EXPECT_NE(set.text("/services/0/overrides/0/by"), "");
  const std::vector<double> first = shares(lab);
  EXPECT_NEAR(first[1], 1.0 / 6, 0.06);
  EXPECT_EQ(first[3], 0);

  EXPECT_EQ(lab.agent().stop(SIGKILL), 128 + SIGKILL);
  lab.start_agent(setup);
  EXPECT_NEAR(lab.status().factor(1), 0.2, 1e-4);
  EXPECT_EQ(shares(lab)[3], 0);
  const Finished text = petrel(lab, {"status"});
  EXPECT_NE(text.out.find("BY HAND weight b1 20 %, by "), std::string::npos) << text.out;
  const Finished table = petrel(lab, {"weight", "web"});
  EXPECT_NE(table.out.find("20 % of its configured weight until released"), std::string::npos)
      << table.out;

  petrel(lab, {"release", "web", "b3"});
  EXPECT_GT(shares(lab)[3], 0.3);
  petrel(lab, {"release", "web"});
  EXPECT_EQ(lab.status().least_factor(), 1);
  EXPECT_EQ(overrides(lab.status()), 0u);
  lab.petrel({"detach", "-c", lab.config_path()});
}

TEST_F(OverrideTest, AnOrderEndsInItsTimeAndOneThatIsOverDoesNothingAtAStart) {
  Lab lab(kQuick);
  const AgentSetup setup = {.arguments = {"--keep"}};
  lab.start_agent(setup);
  petrel(lab, {"weight", "web", "b2", "50%", "--for", "1s"});
  EXPECT_NEAR(lab.status().factor(2), 0.5, 1e-4);
  lab.eventually("the order is over", [](const Status& status) {
    return status.factor(2) == 1 && overrides(status) == 0;
  });
  petrel(lab, {"drain", "b1", "--for", "1s", "--reason", "kernel"});
  petrel(lab, {"weight", "web", "b2", "50%", "--for", "1s"});
  EXPECT_EQ(lab.status().backend_text(1, "reason"), "draining");
  EXPECT_EQ(lab.agent().stop(SIGKILL), 128 + SIGKILL);
  std::this_thread::sleep_for(1s);  // until both are over
  lab.start_agent(setup);
  const Status status = lab.status();
  EXPECT_EQ(overrides(status), 0u);
  EXPECT_TRUE(status.at("/services/0/backends/0/drain").is_null());
  EXPECT_EQ(status.factor(2), 1);
  lab.petrel({"detach", "-c", lab.config_path()});
}

TEST_F(OverrideTest, FreezeHoldsNeutralTakesBackAndReleaseLetsGo) {
  Lab lab(kQuick);
  lab.start_agent();
  petrel(lab, {"freeze", "web", "--reason", "release night"});
  lab.fault(2, "errors", {"--rate", "1"});
  lab.start_client({"--rate", "200", "--duration", "60"});
  const auto would = [](const Status& status) { return status.backend(2, "wanted_factor") < 0.1; };
  const Status frozen = lab.eventually("control wants b2's fall", would);
  EXPECT_EQ(frozen.least_factor(), 1) << frozen.weights();
  EXPECT_EQ(frozen.backend_text(2, "reason"), "frozen");
  EXPECT_EQ(frozen.text("/services/0/order"), "freeze");
  EXPECT_GT(frozen.number("/services/0/overrides/0/left_s"), 3500);  // an hour, unless said

  petrel(lab, {"release", "web"});
  lab.eventually("b2's fall", [](const Status& s) { return s.backend(2, "share") < 0.05; });
  petrel(lab, {"neutral", "web", "--for", "10m"});
  const Status neutral = lab.status();
  EXPECT_NEAR(neutral.backend(2, "share"), 1.0 / 3, 0.01);
  EXPECT_EQ(neutral.backend_text(2, "reason"), "neutral");
  // A reload keeps it.
  EXPECT_EQ(petrel(lab, {"reload"}).exit_code, 0);
  EXPECT_NEAR(lab.status().backend(2, "share"), 1.0 / 3, 0.01);
  petrel(lab, {"release", "web"});
  lab.eventually("b2's fall again", [](const Status& s) { return s.backend(2, "share") < 0.05; });
}

TEST_F(OverrideTest, WhatIsWrongIsSaidAndChangesNothing) {
  Lab lab(kQuick);
  lab.start_agent();
  const auto says = [&](const std::vector<std::string>& arguments, const std::string& what) {
    const Finished done = petrel(lab, arguments, 2);
    EXPECT_NE(done.err.find(what), std::string::npos) << done.err;
  };
  says({"weight", "web", "b9", "30%"}, "no backend of web is called 'b9': there are b1, b2, b3");
  says({"weight", "wob", "b1", "30%"}, "no service is called 'wob': there are web");
  for (const char* wrong : {"30", "101%", "x%", "%", "nan%"}) {
    says({"weight", "web", "b1", wrong}, "from 0% to 100%");
  }
  for (const char* wrong : {"10", "m", "0s", "10 m"}) {
    says({"freeze", "web", "--for", wrong}, "--for: expected a duration");
  }
  says({"freeze", "web", "--for", "31d"}, "for_s: expected");
  says({"release", "web"}, "nothing is overridden of web");
  says({"neutral", "b1"}, "no service is called 'b1'");
  petrel(lab, {"weight", "web", "b1", "0%"});
  petrel(lab, {"weight", "web", "b2", "0%"});
  says({"weight", "web", "b3", "0%"}, "no backend of web would take new flows");
  petrel(lab, {"release", "web"});
  const Status status = lab.status();
  EXPECT_EQ(overrides(status), 0u);
  EXPECT_EQ(status.least_factor(), 1);
}

TEST_F(OverrideTest, AStateDirectoryThatCannotBeWrittenIsAWarning) {
  Lab lab(kQuick);
  std::ofstream(lab.socket() + ".state") << "a file where the directory should be";
  lab.start_agent();
  const Finished done = petrel(lab, {"weight", "web", "b1", "50%"}, 4);
  EXPECT_NE(done.err.find("in force, but not over a restart"), std::string::npos) << done.err;
  EXPECT_NEAR(lab.status().factor(1), 0.5, 1e-4);
}

// Two of three refuse: panic, in which the one that drains gets nothing all the same.
TEST_F(OverrideTest, PanicSendsNothingToADrainingBackend) {
  Lab lab(kQuick);
  lab.start_agent();
  petrel(lab, {"drain", "b1", "--deadline", "60", "--reason", "kernel"});
  for (int i : {2, 3}) lab.fault(i, "refuse");
  Process& client = lab.start_client({"--rate", "200", "--duration", "60"});
  lab.eventually(
      "panic", [](const Status& status) { return status.flag("/services/0/panic"); }, 20s);
  const Status status = lab.status();
  const double before = status.backend(1, "wire/connections");
  EXPECT_EQ(status.backend(1, "share"), 0);
  lab.eventually("200 connections more", [&](const Status& later) {
    return later.sum("wire/connections") > status.sum("wire/connections") + 200;
  });
  EXPECT_EQ(lab.status().backend(1, "wire/connections"), before);
  lab.end_client(client);
}

// --- the decision log -----------------------------------------------------------------------------

TEST_F(OverrideTest, TheLogSaysWhatWasDecidedAndWhy) {
  Lab lab(kQuick);
  lab.start_agent();
  petrel(lab, {"weight", "web", "b3", "80%", "--reason", "old machine"});
  lab.fault(2, "errors", {"--rate", "1"});
  Process& client = lab.start_client({"--rate", "200", "--duration", "60"});
  lab.eventually("b2's fall", [](const Status& s) { return s.backend(2, "share") < 0.05; });
  const auto log = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"log", "--since", "10m", "--json"});
    return petrel(lab, more).out;
  };
  await("b2's fall in the log", [&] {
    return log({"--backend", "b2", "--kind", "weight"}).find("\"reason\":\"risk\"") !=
           std::string::npos;
  });
  const std::string falls = log({"--service", "web", "--backend", "b2", "--kind", "weight"});
  const Facts first(falls.substr(0, falls.find('\n')));
  EXPECT_EQ(first.text("/schema"), "petrel/decision/v1");
  EXPECT_EQ(first.text("/backend"), "b2");
  EXPECT_EQ(first.number("/before"), 1);
  EXPECT_LT(first.number("/after"), 1);
  EXPECT_TRUE(first.flag("/in_force"));
  EXPECT_NE(first.text("/model"), "");
  EXPECT_GT(first.at("/features").as_array().size(), 0u);
  EXPECT_EQ(falls.find("\"b1\""), std::string::npos);
  const Facts order(log({"--kind", "override"}));
  EXPECT_EQ(order.text("/after"), "weight 80 %");
  EXPECT_NE(order.text("/note").find("old machine"), std::string::npos);

  const Finished explained = petrel(lab, {"explain", "b2"});
  EXPECT_NE(explained.out.find("last decisions"), std::string::npos) << explained.out;
  EXPECT_NE(explained.out.find("weight 100.0 % -> "), std::string::npos) << explained.out;
  EXPECT_EQ(lab.status().number("/decision_log/lost_full"), 0);
  // The same as JSON lines.
  std::ifstream file(lab.socket() + ".state/decisions.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  EXPECT_EQ(Facts(line).text("/kind"), "override");

  // Whoever follows hears of what comes.
  Process& follower = lab.start_petrel({"log", "-s", lab.socket(), "--kind", "override", "--follow"});
  petrel(lab, {"release", "web"});
  await("the release is followed", [&] {
    return follower.out().find("weight 80 % -> -") != std::string::npos;
  });
  EXPECT_EQ(follower.stop(SIGTERM), 0);
  lab.end_client(client);
  // Without an agent.
  EXPECT_EQ(lab.agent().stop(SIGTERM), 0);
  const Finished later = lab.petrel({"log", "-c", lab.config_path(), "--backend", "b2"});
  EXPECT_EQ(later.exit_code, 0) << later.err;
  EXPECT_NE(later.out.find("web/b2  weight  100.0 % -> "), std::string::npos) << later.out;
}

TEST_F(OverrideTest, ShadowLogsWhatItWouldHaveDone) {
  Lab lab(kQuick);
  lab.start_agent({.mode = "shadow"});
  lab.fault(2, "errors", {"--rate", "1"});
  lab.start_client({"--rate", "200", "--duration", "60"});
  await("b2's fall in the log, not in force", [&] {
    const Finished log = lab.petrel({"log", "-s", lab.socket(), "--backend", "b2"});
    return log.out.find("(not in force)  risk") != std::string::npos;
  });
  EXPECT_EQ(lab.status().least_factor(), 1);
}

TEST_F(OverrideTest, ALogThatCannotBeWrittenIsSaidAndStopsNothing) {
  Lab lab(kQuick);
  std::ofstream(lab.socket() + ".state") << "a file where the directory should be";
  lab.start_agent();
  lab.petrel({"weight", "web", "b1", "50%", "-s", lab.socket()});
  const Status status = lab.eventually("losses are counted", [](const Status& s) {
    return s.number("/decision_log/sqlite_lost") > 0 && s.number("/decision_log/json_lost") > 0;
  });
  EXPECT_NE(status.text("/decision_log/error"), "");
  EXPECT_NEAR(status.factor(1), 0.5, 1e-4);
  EXPECT_EQ(lab.await_client(lab.start_client({"--rate", "100", "--duration", "1"})).failed(), 0);
}

}  // namespace
}  // namespace petrel::test
