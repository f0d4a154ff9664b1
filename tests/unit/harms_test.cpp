// SPDX-License-Identifier: MIT
#include "agent/harms.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "agent/state_file.hpp"

namespace petrel {
namespace {

TEST(Harms, AreReadAsTheyWereWritten) {
  const std::vector<Harm> harms = {{"web", 1'700'000'000'000'000'000, 300'000'000'000, 1},
                                   {"dns \"a\"", 5, 6, 7}};
  const auto read = parse_harms(harms_text(harms), "harms.json");
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, harms);
  EXPECT_TRUE(parse_harms(harms_text({}), "harms.json")->empty());
}

TEST(Harms, WhatIsNotTheirsIsAnErrorThatNamesTheFile) {
  for (const char* text : {"[]", "{", R"({"schema":"petrel/harms/v2","harms":[]})",
                           R"({"schema":"petrel/harms/v1","harms":[{"service":"web"}]})",
                           R"({"schema":"petrel/harms/v1","harms":[{"service":"web","until_ns":1,)"
                           R"("rest_ns":-1,"found":1}]})"}) {
    const auto read = parse_harms(text, "/some/harms.json");
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().kind(), ExitCode::kInput);
    EXPECT_NE(read.error().message().find("/some/harms.json"), std::string::npos);
  }
}

TEST(Harms, NoFileIsNone) {
  const auto directory = std::filesystem::path(testing::TempDir()) / "harms-test";
  std::filesystem::remove_all(directory);
  const std::string path = (directory / "harms.json").string();
  EXPECT_TRUE(read_harms(path)->empty());
  const std::vector<Harm> harms = {{"web", 1, 2, 3}};
  ASSERT_TRUE(write_file_whole(path, harms_text(harms)));
  EXPECT_EQ(*read_harms(path), harms);
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace petrel
