// SPDX-License-Identifier: MIT
// The list of overrides, and its file.
#include "agent/overrides.hpp"
#include "agent/state_file.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "agent/agent.hpp"

namespace petrel {
namespace {

constexpr std::int64_t kNow = 1'800'000'000'000'000'000;

Override of(OverrideKind kind, const std::string& backend, std::int64_t until_ns = 0) {
  Override it;
  it.kind = kind;
  it.service = "web";
  it.backend = backend;
  it.percent = 30;
  it.reason = "a \"quoted\" reason";
  it.by = "alice";
  it.since_ns = kNow;
  it.until_ns = until_ns;
  return it;
}

TEST(Overrides, AServiceHasOneOrderABackendOneOfEachKind) {
  Overrides overrides;
  overrides.put(of(OverrideKind::kFreeze, ""));
  overrides.put(of(OverrideKind::kNeutral, ""));
  overrides.put(of(OverrideKind::kWeight, "b1"));
  overrides.put(of(OverrideKind::kDrain, "b1"));
  overrides.put(of(OverrideKind::kWeight, "b1"));
  ASSERT_EQ(overrides.list().size(), 3u);
  EXPECT_EQ(overrides.list()[0].kind, OverrideKind::kNeutral);
  EXPECT_EQ(overrides.release("web", "b1").size(), 2u);
  EXPECT_TRUE(overrides.release("dns", "").empty());
  EXPECT_EQ(overrides.release("web", "").size(), 1u);
}

TEST(Overrides, AFileReadsBackAsItWas) {
  Overrides overrides;
  Override freeze = of(OverrideKind::kFreeze, "", kNow + 1);
  freeze.frozen_q16["b2"] = 1234;
  overrides.put(freeze);
  overrides.put(of(OverrideKind::kWeight, "b1"));
  const auto again = Overrides::parse(overrides.text(), "file", kNow);
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->text(), overrides.text());
  EXPECT_EQ(again->list()[0].frozen_q16.at("b2"), 1234u);
}

TEST(Overrides, WhatIsOverDoesNothing) {
  Overrides overrides;
  overrides.put(of(OverrideKind::kWeight, "b1", kNow));
  overrides.put(of(OverrideKind::kWeight, "b2", kNow + 1));
  EXPECT_EQ(Overrides::parse(overrides.text(), "file", kNow)->list().size(), 1u);
  const auto over = overrides.expire(kNow);
  ASSERT_EQ(over.size(), 1u);
  EXPECT_EQ(over[0].backend, "b1");
  EXPECT_EQ(overrides.list().size(), 1u);
}

TEST(Overrides, AFileOfAnotherKindIsAnErrorThatNamesIt) {
  for (const char* text :
       {"", "{", "{}", R"({"schema":"petrel/overrides/v2","overrides":[]})",
        R"({"schema":"petrel/overrides/v1","overrides":[{"kind":"weight"}]})",
        R"({"schema":"petrel/overrides/v1","overrides":[{"kind":"sing","service":"web","backend":"",)"
        R"("percent":1,"reason":"","by":"","uid":0,"since_ns":0,"until_ns":0,"drained_ns":0,)"
        R"("frozen_q16":{}}]})"}) {
    const auto parsed = Overrides::parse(text, "/some/overrides.json", kNow);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().kind(), ExitCode::kInput);
    EXPECT_NE(parsed.error().message().find("/some/overrides.json"), std::string::npos);
  }
}

TEST(Overrides, NoFileIsNoneAndADirectoryInItsPlaceAnError) {
  const auto directory = std::filesystem::path(testing::TempDir()) / "overrides-test";
  std::filesystem::remove_all(directory);
  EXPECT_TRUE(read_overrides((directory / "none.json").string(), kNow)->list().empty());
  Overrides overrides;
  overrides.put(of(OverrideKind::kDrain, "b1"));
  const std::string path = (directory / "overrides.json").string();
  ASSERT_TRUE(write_file_whole(path, overrides.text()));
  EXPECT_EQ(read_overrides(path, kNow)->text(), overrides.text());
  std::filesystem::create_directory(directory / "d");
  std::filesystem::create_directory(directory / "d" / "in-it");
  EXPECT_FALSE(write_file_whole((directory / "d").string(), "text"));
  std::filesystem::remove_all(directory);
}

ApiRequest request(std::map<std::string, std::string> query) {
  ApiRequest out;
  out.is_post = true;
  out.query = std::move(query);
  out.peer_uid = 7;
  return out;
}

TEST(OverrideRequest, SaysWhoForHowLongAndWhy) {
  const auto it = override_of(request({{"service", "web"}, {"backend", "b1"}, {"percent", "30"},
                                       {"for_s", "600"}, {"by", "alice\n"}, {"reason", "why"}}),
                              OverrideKind::kWeight);
  ASSERT_TRUE(it) << it.error().message();
  EXPECT_EQ(it->by, "alice?");
  EXPECT_EQ(it->uid, 7u);
  EXPECT_EQ(it->percent, 30);
  EXPECT_EQ(it->until_ns - it->since_ns, 600'000'000'000);
}

TEST(OverrideRequest, WhatCannotBeReadIsAUsageErrorThatNamesIt) {
  const auto error = [](std::map<std::string, std::string> query) {
    const auto it = override_of(request(std::move(query)), OverrideKind::kWeight);
    EXPECT_FALSE(it);
    return it ? std::string() : it.error().message();
  };
  for (const char* percent : {"", "-1", "101", "30%", "nan", "inf", "3x"}) {
    EXPECT_NE(error({{"percent", percent}}).find("percent: expected"), std::string::npos) << percent;
  }
  for (const char* for_s : {"0", "-5", "2592001", "ten"}) {
    EXPECT_NE(error({{"percent", "1"}, {"for_s", for_s}}).find("for_s: expected"), std::string::npos)
        << for_s;
  }
  EXPECT_NE(error({{"percent", "1"}, {"reason", std::string(201, 'x')}}).find("reason: expected"),
            std::string::npos);
}

}  // namespace
}  // namespace petrel
