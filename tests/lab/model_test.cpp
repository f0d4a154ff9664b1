// SPDX-License-Identifier: MIT
// A model's life in a running agent: watched, no longer believed, replaced and put back.
//
//   client ── lb ─┬─ b1   answers 5 % of its requests with 503; clients try again
//                 ├─ b2   30 %
//                 └─ b3   5 %
#include "score/model.hpp"

#include <algorithm>
#include <csignal>
#include <fstream>

#include "tests/lab/config_file.hpp"
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

// A row is known one retry window after its request: a short one. A window of parts of a second.
constexpr const char* kShortRetries = "retry_window_ms = 500";
constexpr const char* kShortWindow = "[model_watch]\nwindow_s = 60\n";

std::string written(Lab& lab, const std::string& name, const Model& model) {
  const std::string path = lab.path(name + ".json");
  if (auto saved = save_model(model, path); !saved)
    throw std::runtime_error(saved.error().message());
  return path;
}

// The tests' model, its log-odds moved: far too sure that all is tried again.
std::string wrong_model(Lab& lab) {
  Model model = *load_model(Lab::model());
  model.name = "wrong";
  model.bias = round_to_file_digits(model.bias + 9);
  if (!quantize(model)) throw std::runtime_error("quantize");
  return written(lab, "wrong", model);
}

// The tests' model under another name.
std::string good_model(Lab& lab) {
  Model model = *load_model(Lab::model());
  model.name = "good";
  return written(lab, "good", model);
}

class ModelTest : public LabTest {
 protected:
  static AgentSetup setup(const std::string& model, const std::string& more = "") {
    return {.mode = "act",
            .model = model,
            .agent_lines = kShortRetries,
            .control_lines = kShortWindow + more};
  }
  static void start_traffic(Lab& lab) {
    // Some at each: retries go on where b2 has lost its traffic.
    for (int i : {1, 2, 3}) lab.fault(i, "errors", {"--rate", i == 2 ? "0.3" : "0.05"});
    lab.start_client({"--rate", "300", "--duration", "120", "--clients", "8000", "--retry", "fixed",
                      "--retry-delay-ms", "50", "--max-attempts", "3"});
  }
  static Status await_state(Lab& lab, const std::string& state) {
    return lab.eventually(
        "the model is " + state,
        [&](const Status& status) { return status.text("/model/state") == state; }, 30s);
  }
  static Finished model(Lab& lab, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "model");
    arguments.insert(arguments.end(), {"-s", lab.socket()});
    return lab.petrel(arguments);
  }
  // Of `petrel model compare`, once nothing speaks against the shadow; or once something does.
  static Facts await_comparison(Lab& lab, const std::string& objection) {
    std::string last;
    await(
        "a comparison with the objection '" + objection + "'",
        [&] {
          const Finished compared = model(lab, {"compare", "--json"});
          if (compared.exit_code != 0) throw std::runtime_error(compared.err);
          last = compared.out;
          const Facts facts(last);
          const auto& found = facts.at("/objection");
          if (objection.empty()) return found.is_null();
          return found.is_string() && found.as_string().find(objection) != std::string::npos;
        },
        60s);
    return Facts(last);
  }
};

TEST_F(ModelTest, AWrongModelIsNotActedOnAndStatusSaysWhy) {
  Lab lab;
  lab.start_agent(setup(wrong_model(lab)));
  start_traffic(lab);
  const Status drifted = await_state(lab, "drifted");
  EXPECT_TRUE(drifted.text("/model/reason").starts_with("calibration error 0."))
      << drifted.text("/model/reason");
  EXPECT_TRUE(drifted.flag("/model/weights_held"));
  EXPECT_EQ(drifted.number("/model/drifted"), 1);
  EXPECT_EQ(drifted.least_factor(), 1) << drifted.weights();
  for (int i : {1, 2, 3}) {
    EXPECT_EQ(drifted.backend_text(i, "reason"), "neutral");
    EXPECT_NEAR(drifted.backend(i, "share"), 1.0 / 3, 0.01);
  }
  EXPECT_GE(drifted.number("/model/watch/rows"), 1000);
  const Finished text = lab.petrel({"status", "-s", lab.socket()});
  EXPECT_NE(text.out.find("model DRIFTED: calibration error"), std::string::npos) << text.out;
  EXPECT_NE(lab.agent().err().find("the model has drifted: calibration error"), std::string::npos);

  // By hand: it is believed until as many rows say again that it is not to be.
  const Finished accepted = model(lab, {"accept"});
  EXPECT_EQ(accepted.exit_code, 0) << accepted.err;
  const Status believed = lab.status();
  EXPECT_EQ(believed.text("/model/state"), "unproven");
  EXPECT_FALSE(believed.flag("/model/weights_held"));
  lab.eventually(
      "it has drifted again",
      [](const Status& status) {
        return status.number("/model/drifted_total") == 2 && status.flag("/model/weights_held");
      },
      30s);

  // What is to be done about it is the configuration's.
  ConfigFile config = ConfigFile::read(lab.config_path());
  const std::string line = "window_s = 60\n";
  config.head.insert(config.head.find(line), "drift_action = \"report\"\n");
  config.write(lab.config_path());
  const Finished reloaded = lab.petrel({"reload", "-s", lab.socket()});
  ASSERT_EQ(reloaded.exit_code, 0) << reloaded.err;
  EXPECT_NE(reloaded.out.find("model_watch.drift_action neutral -> report"), std::string::npos)
      << reloaded.out;
  const Status reported = lab.status();
  EXPECT_EQ(reported.text("/model/state"), "drifted");
  EXPECT_FALSE(reported.flag("/model/weights_held"));
}

TEST_F(ModelTest, AGoodModelInTheSameTrafficIsBelieved) {
  Lab lab;
  lab.start_agent(setup(""));
  start_traffic(lab);
  await_state(lab, "good");
  const Status later = lab.eventually(
      "4000 rows, 50 of them retried",
      [](const Status& status) {
        return status.number("/model/watch/rows") > 4000 &&
               status.number("/model/watch/retried") >= 50;
      },
      60s);
  EXPECT_EQ(later.text("/model/state"), "good");
  EXPECT_TRUE(later.at("/model/reason").is_null());
  EXPECT_EQ(later.number("/model/drifted_total"), 0);
  EXPECT_FALSE(later.flag("/model/weights_held"));
  EXPECT_LT(later.number("/model/watch/ece"), 0.15);
  EXPECT_GT(later.number("/model/watch/auc"), 0.9);
  lab.eventually(
      "b2's fall", [](const Status& status) { return status.factor(2) < 0.9; }, 30s);
}

TEST_F(ModelTest, AShadowIsComparedPromotedAndRolledBack) {
  Lab lab;
  const std::string wrong = wrong_model(lab), good = good_model(lab);
  lab.start_agent(setup(wrong));
  start_traffic(lab);
  for (const char* verb : {"compare", "promote", "rollback"}) {
    const Finished none = model(lab, {verb});
    EXPECT_EQ(none.exit_code, 1) << verb << none.err;
  }
  const Finished shadow = model(lab, {"shadow", good});
  ASSERT_EQ(shadow.exit_code, 0) << shadow.err;
  const Finished early = model(lab, {"promote"});
  EXPECT_EQ(early.exit_code, 8) << early.out;
  EXPECT_NE(early.err.find("needs 1000"), std::string::npos) << early.err;
  await_state(lab, "drifted");

  const Facts compared = await_comparison(lab, "");
  EXPECT_EQ(compared.text("/schema"), "petrel/model-compare/v1");
  EXPECT_LT(compared.number("/all/difference/log_loss/high"), 0);
  EXPECT_LT(compared.number("/all/difference/ece/high"), 0);
  EXPECT_EQ(compared.number("/all/live/rows"), compared.number("/all/shadow/rows"));
  const Finished table = model(lab, {"compare"});
  EXPECT_NE(table.out.find("log loss"), std::string::npos) << table.out;

  const Finished promoted = model(lab, {"promote"});
  ASSERT_EQ(promoted.exit_code, 0) << promoted.err;
  const Status live = lab.status();
  EXPECT_EQ(live.text("/model/name"), "good");
  EXPECT_EQ(live.text("/model/previous/name"), "wrong");
  EXPECT_TRUE(live.at("/model/shadow").is_null());
  EXPECT_FALSE(live.flag("/model/weights_held"));
  await_state(lab, "good");

  // Over a restart; the configuration's own file is as it was.
  EXPECT_EQ(lab.agent().stop(SIGTERM), 0);
  lab.start_agent(setup(wrong));
  const Status restarted = lab.status();
  EXPECT_EQ(restarted.text("/model/name"), "good");
  EXPECT_EQ(restarted.text("/model/previous/name"), "wrong");
  EXPECT_EQ(load_model(wrong)->name, "wrong");

  const Finished back = model(lab, {"rollback", "--json"});
  ASSERT_EQ(back.exit_code, 0) << back.err;
  EXPECT_EQ(Facts(back.out).text("/file"), wrong);
  const Status rolled_back = lab.status();
  EXPECT_EQ(rolled_back.text("/model/name"), "wrong");
  EXPECT_EQ(rolled_back.text("/model/shadow/name"), "good");  // it goes on being watched
  EXPECT_TRUE(rolled_back.at("/model/previous").is_null());
  EXPECT_EQ(model(lab, {"rollback"}).exit_code, 1);
}

TEST_F(ModelTest, AWorseShadowIsPromotedByForceOnly) {
  Lab lab;
  lab.start_agent(setup(good_model(lab)));
  start_traffic(lab);
  ASSERT_EQ(model(lab, {"shadow", wrong_model(lab)}).exit_code, 0);
  await_comparison(lab, "calibration error");
  const Finished refused = model(lab, {"promote"});
  EXPECT_EQ(refused.exit_code, 8) << refused.out;
  EXPECT_NE(refused.err.find("--force"), std::string::npos) << refused.err;
  EXPECT_EQ(lab.status().text("/model/name"), "good");
  const Finished forced = model(lab, {"promote", "--force"});
  EXPECT_EQ(forced.exit_code, 0) << forced.err;
  EXPECT_EQ(lab.status().text("/model/name"), "wrong");
}

TEST_F(ModelTest, AShadowThatCannotBeReadChangesNothing) {
  Lab lab;
  const std::string bad = lab.path("bad.json"), good = good_model(lab);
  std::ofstream(bad) << "{}";
  AgentSetup with_bad = setup("", "shadow_model = \"" + bad + "\"\n");
  Process& failing = lab.launch_agent(with_bad);
  EXPECT_EQ(failing.wait(), 3);
  EXPECT_NE(failing.err().find("model_watch.shadow_model: model " + bad), std::string::npos)
      << failing.err();
  EXPECT_EQ(lab.leftovers(), "");

  lab.start_agent(setup("", "shadow_model = \"" + good + "\"\n"));
  EXPECT_EQ(lab.status().text("/model/shadow/name"), "good");
  const Finished by_hand = model(lab, {"shadow", bad});
  EXPECT_EQ(by_hand.exit_code, 3) << by_hand.err;
  std::ofstream(good) << "{";
  const Finished reloaded = lab.petrel({"reload", "-s", lab.socket()});
  EXPECT_EQ(reloaded.exit_code, 3) << reloaded.err;
  EXPECT_NE(reloaded.err.find("model_watch.shadow_model"), std::string::npos) << reloaded.err;
  EXPECT_EQ(lab.status().text("/model/shadow/name"), "good");
  EXPECT_EQ(model(lab, {"shadow", "--off"}).exit_code, 0);
  EXPECT_TRUE(lab.status().at("/model/shadow").is_null());
}

TEST_F(ModelTest, ReplayFollowsAFallBackAndAPromotion) {
  Lab lab;
  const std::string good = good_model(lab);
  lab.start_agent(setup(wrong_model(lab)));
  const std::string file = lab.path("run.db");
  Process& capture = lab.start_petrel({"capture", "-s", lab.socket(), "-o", file});
  const auto ticks = [&] {
    const Finished out = lab.petrel({"export", file, "-o", "-", "--table", "ticks"});
    return out.exit_code == 0 ? std::count(out.out.begin(), out.out.end(), '\n') - 1 : -1;
  };
  await(
      "the first ticks", [&] { return ticks() > 0; }, 30s);
  start_traffic(lab);
  await_state(lab, "drifted");
  ASSERT_EQ(model(lab, {"shadow", good}).exit_code, 0);
  ASSERT_EQ(model(lab, {"promote", "--force"}).exit_code, 0);
  lab.eventually(
      "b2's fall", [](const Status& status) { return status.factor(2) < 0.9; }, 30s);
  ASSERT_EQ(model(lab, {"rollback"}).exit_code, 0);
  lab.eventually(
      "the second fall back",
      [](const Status& status) { return status.number("/model/drifted_total") == 2; }, 30s);
  const auto before = ticks();
  await(
      "ticks after it", [&] { return ticks() > before + 10; }, 30s);
  EXPECT_EQ(capture.stop(SIGTERM), 0);
  EXPECT_NE(capture.err().find("lost 0"), std::string::npos) << capture.err();

  const Finished replay = lab.petrel({"replay", file, "--compare", "--json"});
  EXPECT_EQ(replay.exit_code, 0) << replay.err;
  const std::string last = replay.out.substr(replay.out.rfind('\n', replay.out.size() - 2) + 1);
  const Facts facts(last);
  EXPECT_TRUE(facts.flag("/comparison/equal")) << last;
  EXPECT_EQ(facts.number("/comparison/ticks"), facts.number("/ticks")) << last;
  EXPECT_GE(facts.number("/checkpoints"), 5) << last;  // the first, two fall backs, two changes
}

}  // namespace
}  // namespace petrel::test
