// SPDX-License-Identifier: MIT
// The online self-check: learned weights that do harm are taken back, and those that help are told
// by how much. How near a service is to a storm stands beside it.
//
//   client ── lb ─┬─ b1, b2   answer with 503; clients try again once
//                 └─ b3, b4   answer well
#include "score/model.hpp"
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

// A fifth of all flows, so that seconds tell. No refused retry, no admission: weights alone.
constexpr const char* kHoldout = "holdout = 0.2\nadmission = false\nbudget = { enabled = false }\n";
const std::vector<std::string> kClient = {"--rate",           "300",  "--duration",     "120",
                                          "--clients",        "8000", "--retry",        "fixed",
                                          "--retry-delay-ms", "50",   "--max-attempts", "2"};

// Good answers are retried and errors are not, says this one: a sign is wrong.
std::string inverted_model(Lab& lab) {
  Model model;
  model.name = "inverted";
  model.bias = -4;
  model.training.date = "2026-01-31";
  for (ModelFeature& feature : model.features) {
    feature.min_q16 = -(1 << 22);
    feature.max_q16 = 1 << 22;
  }
  model.features[static_cast<std::size_t>(Feature::kAnswered)].coefficient = 8;
  if (!quantize(model)) throw std::runtime_error("quantize");
  const std::string path = lab.path("inverted.json");
  if (auto saved = save_model(model, path); !saved)
    throw std::runtime_error(saved.error().message());
  return path;
}

class SelfCheckLabTest : public LabTest {
 protected:
  static Finished petrel(Lab& lab, std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"-s", lab.socket()});
    const Finished done = lab.petrel(arguments);
    EXPECT_EQ(done.exit_code, 0) << done.out << done.err;
    return done;
  }
  static std::string state(const Status& status) {
    return status.text("/services/0/self_check/state");
  }
  static double check(const Status& status, const std::string& field) {
    return status.service("self_check/" + field);
  }
  static bool is_known(const Status& status, const std::string& field) {
    return !status.at("/services/0/self_check/" + field).is_null();
  }
};

TEST_F(SelfCheckLabTest, WeightsThatDoHarmAreTakenBackAndItIsSaid) {
  Lab lab({.backends = 4, .service_time_ms = 1, .distribution = "constant"});
  const AgentSetup setup = {.mode = "act",
                            .model = inverted_model(lab),
                            .arguments = {"--keep"},
                            .service_lines = kHoldout};
  lab.start_agent(setup);
  for (int i : {1, 2}) lab.fault(i, "errors", {"--rate", "1"});
  lab.start_client(kClient);
  // It does as it is told: the good ones lose their traffic to the bad ones.
  lab.eventually(
      "b3 and b4 lose their weight",
      [](const Status& status) { return status.factor(3) < 0.1 && status.factor(4) < 0.1; }, 20s);
  const Status harmed = lab.eventually(
      "harm is found", [](const Status& status) { return state(status) == "harm"; }, 40s);
  EXPECT_GT(check(harmed, "evidence/difference_low"), 0.01);
  EXPECT_GT(check(harmed, "evidence/difference"), 0.2);
  EXPECT_LT(check(harmed, "evidence/avoided"), 0);
  EXPECT_EQ(check(harmed, "harms_total"), 1);
  EXPECT_GT(check(harmed, "neutral_left_s"), 200);
  EXPECT_EQ(harmed.least_factor(), 1) << harmed.weights();
  for (int i : {1, 2, 3, 4}) {
    EXPECT_EQ(harmed.backend_text(i, "reason"), "harm");
    EXPECT_NEAR(harmed.backend(i, "share"), 0.25, 0.01);
  }
  // So it stays, whatever the model goes on to say.
  const double before = harmed.sum("wire/connections");
  const Status later = lab.eventually("more traffic", [&](const Status& status) {
    return status.sum("wire/connections") > before + 500;
  });
  EXPECT_EQ(later.least_factor(), 1) << later.weights();
  EXPECT_LT(later.backend(3, "wanted_factor"), 0.1);
  EXPECT_GT(later.backend(3, "wire/answers") - harmed.backend(3, "wire/answers"), 60);

  EXPECT_NE(lab.agent().err().find("web: learned weights do harm: retried: "), std::string::npos)
      << lab.agent().err();
  const Finished text = petrel(lab, {"status"});
  EXPECT_NE(text.out.find("SELF-CHECK: learned weights did HARM"), std::string::npos) << text.out;
  const Finished metrics = petrel(lab, {"status", "--metrics"});
  EXPECT_NE(metrics.out.find("petrel_self_check_harm{service=\"web\"} 1\n"), std::string::npos)
      << metrics.out;
  EXPECT_NE(metrics.out.find("# TYPE petrel_self_check_harms_total counter"), std::string::npos);
  await("the decision is logged", [&] {
    const Finished log = petrel(lab, {"log", "--kind", "self_check"});
    return log.out.find("learned weights -> configured weights  harm") != std::string::npos;
  });

  // By hand, and then by itself again.
  const Finished released = petrel(lab, {"release", "web"});
  EXPECT_NE(released.out.find("learned weights act again"), std::string::npos) << released.out;
  const Status again = lab.eventually("it acts again", [](const Status& status) {
    return state(status) == "judging" && status.factor(3) < 0.1;
  });
  EXPECT_EQ(check(again, "harms_total"), 1);
  lab.eventually(
      "harm is found again",
      [](const Status& status) {
        return state(status) == "harm" && check(status, "harms_total") == 2;
      },
      40s);

  // Another agent does not try it a third time.
  EXPECT_EQ(lab.agent().stop(SIGKILL), 128 + SIGKILL);
  lab.start_agent(setup);
  const Status next = lab.eventually(
      "it serves", [](const Status& status) { return status.sum("wire/connections") > 0; });
  EXPECT_EQ(state(next), "harm");
  EXPECT_EQ(check(next, "harms_total"), 2);
  EXPECT_GT(check(next, "neutral_left_s"), 400);  // twice as long as the first time
  EXPECT_EQ(next.least_factor(), 1) << next.weights();
  EXPECT_NE(lab.agent().err().find("learned weights did harm before this start"), std::string::npos)
      << lab.agent().err();
  const Finished told = petrel(lab, {"status"});
  EXPECT_NE(told.out.find("did HARM: an agent before this one found it"), std::string::npos)
      << told.out;
  lab.petrel({"detach", "-c", lab.config_path()});
}

TEST_F(SelfCheckLabTest, WhatWeightsAvoidIsToldWithItsInterval) {
  Lab lab({.backends = 4, .service_time_ms = 1, .distribution = "constant"});
  lab.start_agent({.mode = "act", .service_lines = kHoldout});
  lab.start_client(kClient);
  lab.eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 300; });
  EXPECT_EQ(state(lab.status()), "idle");
  lab.fault(1, "errors", {"--rate", "1"});
  const Status helped = lab.eventually(
      "what is avoided is certain",
      [](const Status& status) {
        return is_known(status, "last_minute/avoided_low") &&
               check(status, "last_minute/avoided_low") > 0;
      },
      60s);
  EXPECT_EQ(state(helped), "judging");
  EXPECT_FALSE(helped.flag("/services/0/self_check/harm"));
  EXPECT_LT(check(helped, "last_minute/difference"), -0.1);
  EXPECT_GT(check(helped, "last_minute/avoided_high"), check(helped, "last_minute/avoided"));
  // Who is in which group: a fifth of the first attempts, a quarter of those at b1.
  const double held = check(helped, "last_minute/holdout/requests");
  const double rest = check(helped, "last_minute/learned/requests");
  EXPECT_NEAR(held / (held + rest), 0.2, 0.05);
  EXPECT_NEAR(check(helped, "last_minute/holdout/retried") / held, 0.25, 0.1);
  // b1 keeps what the holdout gives it, and no more.
  EXPECT_NEAR(helped.backend(1, "share"), 0.05, 0.01);
  EXPECT_EQ(helped.factor(3), 1);

  // Healthy again: the weights are the configured ones, and nothing more is judged.
  lab.fault(1, "none");
  lab.eventually(
      "all is as configured",
      [](const Status& status) { return state(status) == "idle" && status.factor(1) == 1; }, 40s);
}

TEST_F(SelfCheckLabTest, AShadowReportSaysWhatWouldHaveBeenSaved) {
  Lab lab({.backends = 4, .service_time_ms = 1, .distribution = "constant"});
  lab.start_agent({.mode = "shadow", .service_lines = kHoldout});
  lab.start_client(kClient);
  lab.eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 300; });
  const Facts before(petrel(lab, {"report", "web", "--json"}).out);
  EXPECT_EQ(before.text("/schema"), "petrel/report/v1");
  EXPECT_EQ(before.number("/changes"), 0);
  EXPECT_EQ(before.number("/moved_flows"), 0);

  lab.fault(1, "errors", {"--rate", "1"});
  lab.eventually("b1 would lose its weight",
                 [](const Status& status) { return status.backend(1, "wanted_factor") < 0.1; });
  std::string last;
  await(
      "400 retries of its flows",
      [&] {
        last = petrel(lab, {"report", "web", "--since", "10m", "--json"}).out;
        return Facts(last).number("/retried_left") > 400;
      },
      30s);
  const Facts report(last);
  EXPECT_EQ(report.text("/mode"), "shadow");
  EXPECT_GT(report.number("/changes"), 0);
  EXPECT_EQ(report.text("/changes_by_backend/0/backend"), "b1");
  EXPECT_LT(report.number("/changes_by_backend/0/least_factor"), 0.1);
  // All retries are b1's: but for those of before it was seen, they would not have been.
  EXPECT_GT(report.number("/saved/value"), 0.8 * report.number("/retried"));
  EXPECT_LE(report.number("/saved/value"), report.number("/retried"));
  EXPECT_NEAR(report.number("/retried_left"), report.number("/moved_flows"),
              0.2 * report.number("/moved_flows"));
  // Nothing was in force.
  EXPECT_EQ(lab.status().service("moved_slots"), 0);
  const Finished text = petrel(lab, {"report", "web"});
  EXPECT_NE(text.out.find("likely saved"), std::string::npos) << text.out;

  EXPECT_EQ(lab.petrel({"report", "nobody", "-s", lab.socket()}).exit_code, 2);
  EXPECT_EQ(lab.petrel({"report", "web", "--since", "2", "-s", lab.socket()}).exit_code, 2);
  EXPECT_EQ(lab.petrel({"report", "web", "--since", "2d", "-s", lab.socket()}).exit_code, 2);
  EXPECT_EQ(lab.petrel({"report", "web", "-s", lab.path("none.sock")}).exit_code, 6);
}

}  // namespace
}  // namespace petrel::test
