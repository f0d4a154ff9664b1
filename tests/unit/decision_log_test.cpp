// SPDX-License-Identifier: MIT
// The decision log: on disk as it was told, bounded, and never in the way.
#include "decisions/decision_log.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/json.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

namespace petrel {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kNow = 1'800'000'000'123'000'000;

Decision fall(int number) {
  Decision it;
  it.time_ns = kNow + number;
  it.tick = static_cast<std::uint64_t>(number);
  it.service = number % 2 == 0 ? "web" : "dns";
  it.backend = "b" + std::to_string(number % 3);
  it.before = 1.0;
  it.after = 0.5;
  it.reason = "risk";
  it.rails = "growth_cap";
  it.features = {{"failed", 2.5}, {"waiting", -0.25}};
  it.model = "retry v3 (0123abcd)";
  return it;
}

std::vector<Decision> falls(int from, int to) {
  std::vector<Decision> list;
  for (int i = from; i < to; ++i) list.push_back(fall(i));
  return list;
}

class DecisionLogTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = (fs::path(testing::TempDir()) /
                  (std::string("decisions-") +
                   testing::UnitTest::GetInstance()->current_test_info()->name()))
                     .string();
    fs::remove_all(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string db() const { return decisions_db(directory_); }
  static std::vector<std::string> lines(const std::string& path) {
    std::ifstream file(path);
    std::vector<std::string> out;
    for (std::string line; std::getline(file, line);) out.push_back(line);
    return out;
  }

  std::string directory_;
};

TEST_F(DecisionLogTest, ARowReadsBackAsItWas) {
  Decision state = fall(2);
  state.kind = DecisionKind::kState;
  state.before = std::string("up");
  state.after = std::string("quarantined");
  state.in_force = false;
  state.note = "(by alice)";
  Decision none = fall(3);
  none.before = {};
  {
    DecisionStore store(directory_, {});
    ASSERT_TRUE(store.write_sqlite(std::vector{fall(1), state, none}));
  }
  const auto read = read_decisions(db(), {});
  ASSERT_TRUE(read) << read.error().message();
  ASSERT_EQ(read->size(), 3u);
  EXPECT_EQ(read->at(1), fall(1));
  EXPECT_EQ(read->at(2), state);
  EXPECT_EQ(read->at(3), none);
  EXPECT_EQ(fs::status(db()).permissions(), fs::perms(0600));
}

TEST_F(DecisionLogTest, AQueryTakesWhatItAsksFor) {
  DecisionStore store(directory_, {});
  ASSERT_TRUE(store.write_sqlite(falls(0, 12)));
  const auto count = [&](const DecisionQuery& query) { return read_decisions(db(), query)->size(); };
  EXPECT_EQ(count({}), 12u);
  EXPECT_EQ(count({.since_ns = kNow + 10}), 2u);
  EXPECT_EQ(count({.after_id = 11}), 1u);
  EXPECT_EQ(count({.service = "web"}), 6u);
  EXPECT_EQ(count({.service = "web", .backend = "b0"}), 2u);
  EXPECT_EQ(count({.kind = "state"}), 0u);
  const auto last = read_decisions(db(), {.last = 2});
  ASSERT_EQ(last->size(), 2u);
  EXPECT_EQ(last->begin()->second, fall(10));
}

TEST_F(DecisionLogTest, TheTableKeepsTheLatestRowsOnly) {
  DecisionStore store(directory_, {.sqlite_rows = 1000});
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(store.write_sqlite(falls(i * 500, i * 500 + 500)));
  const auto kept = read_decisions(db(), {});
  EXPECT_EQ(kept->size(), 1000u);
  EXPECT_EQ(kept->begin()->second, fall(1500));
  EXPECT_EQ(kept->rbegin()->second, fall(2499));
}

TEST_F(DecisionLogTest, JsonLinesAreWholeAndRotate) {
  DecisionStore store(directory_, {.json_mb = 1, .json_files = 3});
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(store.write_json(falls(i * 500, i * 500 + 500)));
  const std::string path = decisions_jsonl(directory_);
  EXPECT_TRUE(fs::exists(path));
  EXPECT_TRUE(fs::exists(path + ".2"));
  EXPECT_FALSE(fs::exists(path + ".3"));
  for (const std::string& file : {path, path + ".1", path + ".2"}) {
    EXPECT_LT(fs::file_size(file), (1u << 20) + 500u * 600);
    for (const std::string& line : lines(file)) {
      EXPECT_EQ(boost::json::parse(line).at("schema").as_string(), "petrel/decision/v1");
    }
  }
  const auto last = boost::json::parse(lines(path).back());
  EXPECT_EQ(last.at("tick").to_number<int>(), 19'999);
  EXPECT_EQ(last.at("time").as_string(), "2027-01-15T08:00:00.123Z");
  EXPECT_EQ(last.at("features").at(0).at("feature").as_string(), "failed");
}

TEST_F(DecisionLogTest, AFileThatNobodyCanReadMakesRoom) {
  fs::create_directories(directory_);
  std::ofstream(db()) << std::string(5000, 'x');
  DecisionStore store(directory_, {});
  ASSERT_TRUE(store.write_sqlite(falls(0, 2)));
  EXPECT_EQ(read_decisions(db(), {})->size(), 2u);
  EXPECT_TRUE(fs::exists(db() + ".broken"));
}

TEST_F(DecisionLogTest, ReadingNoSuchFileOrAnotherIsAnError) {
  EXPECT_EQ(read_decisions(db(), {}).error().kind(), ExitCode::kInput);
  fs::create_directories(directory_);
  std::ofstream(db()) << "not SQLite";
  EXPECT_EQ(read_decisions(db(), {}).error().kind(), ExitCode::kInput);
}

TEST_F(DecisionLogTest, AllThatWasAddedIsThereWhenItEnds) {
  {
    DecisionLog log(directory_, {});
    for (const Decision& decision : falls(0, 3000)) log.add(decision);
  }
  EXPECT_EQ(read_decisions(db(), {})->size(), 3000u);
  EXPECT_EQ(lines(decisions_jsonl(directory_)).size(), 3000u);
}

TEST_F(DecisionLogTest, TheLatestOfEachBackendAreAtHand) {
  DecisionLog log(directory_, {.sqlite = false, .json = false});
  for (const Decision& decision : falls(0, 100)) log.add(decision);
  const auto& recent = log.recent("web", "b0");
  ASSERT_EQ(recent.size(), DecisionLog::kRecent);
  EXPECT_EQ(recent.back(), fall(96));
  EXPECT_TRUE(log.recent("web", "b9").empty());
  EXPECT_EQ(log.counts().decisions, 100u);
  EXPECT_EQ(log.counts().lost_full, 0u);
}

// /dev/full: each write is ENOSPC.
TEST_F(DecisionLogTest, AFullDiskCostsDecisionsWhichAreCounted) {
  fs::create_directories(directory_);
  fs::create_symlink("/dev/full", decisions_jsonl(directory_));
  {
    DecisionLog log(directory_, {});
    for (const Decision& decision : falls(0, 10)) log.add(decision);
    while (log.counts().json_lost < 10) std::this_thread::yield();
    EXPECT_NE(log.counts().error.find("ENOSPC"), std::string::npos) << log.counts().error;
    // Once there is room again it goes on.
    fs::remove(decisions_jsonl(directory_));
    log.add(fall(10));
    while (!log.counts().error.empty()) std::this_thread::yield();
    EXPECT_EQ(log.counts().json_lost, 10u);
  }
  EXPECT_EQ(lines(decisions_jsonl(directory_)).size(), 1u);
  EXPECT_EQ(read_decisions(db(), {})->size(), 11u);  // the other one has all
}

TEST_F(DecisionLogTest, ADirectoryThatCannotBeIsCountedToo) {
  std::ofstream(directory_) << "a file in its place";
  DecisionLog log(directory_, {});
  log.add(fall(0));
  while (log.counts().sqlite_lost < 1 || log.counts().json_lost < 1) std::this_thread::yield();
  EXPECT_FALSE(log.counts().error.empty());
  fs::remove(directory_);
}

// A disk that hangs: opening a FIFO that nobody reads blocks. What does not fit is counted, and the
// end is not held up either.
TEST_F(DecisionLogTest, ADiskThatHangsHoldsUpNobody) {
  fs::create_directories(directory_);
  const std::string path = decisions_jsonl(directory_);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const auto begun = std::chrono::steady_clock::now();
  {
    DecisionLog log(directory_, {.sqlite = false});
    for (std::size_t i = 0; i < 2 * DecisionLog::kMostQueued + 10; ++i) log.add(fall(1));
    EXPECT_GE(log.counts().lost_full, 10u);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(10));
  std::ifstream reader(path);  // lets it go
  std::string line;
  EXPECT_TRUE(std::getline(reader, line));
}

TEST(DecisionText, IsOneLine) {
  EXPECT_EQ(decision_text(fall(2)),
            "2027-01-15T08:00:00.123Z  web/b2  weight  100.0 % -> 50.0 %  risk [growth_cap]  "
            "failed +2.50, waiting -0.25");
}

}  // namespace
}  // namespace petrel
