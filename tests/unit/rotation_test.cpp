// SPDX-License-Identifier: MIT
// Captures in files one after the other: each complete by itself, the oldest gone.
#include "capture/rotation.hpp"

#include <algorithm>

#include "tests/unit/capture_samples.hpp"

namespace petrel::test {
namespace {

using namespace std::chrono_literals;

class Rotation : public CaptureFileTest {
 protected:
  // 2026-01-31 12:00:00 UTC
  const CaptureFiles::Time begun_ = CaptureFiles::Time(std::chrono::seconds(1769860800));

  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(path(""))) {
      const std::string name = entry.path().filename().string();
      // Beside the one that is being written.
      if (!name.ends_with("-wal") && !name.ends_with("-shm")) found.push_back(name);
    }
    std::ranges::sort(found);
    return found;
  }
  static void add_loss(CaptureFiles& files, int number) {
    ASSERT_TRUE(files.add(*find_capture_table("losses"), {std::to_string(number), "stream", "1"}));
  }
};

TEST_F(Rotation, WithoutLimitsThereIsOneFileOfThatName) {
  CaptureFiles files(path("a.db"), {}, create_sqlite);
  ASSERT_TRUE(files.open(begun_));
  EXPECT_FALSE(files.is_due(begun_ + 240h));
  ASSERT_TRUE(files.close());
  EXPECT_EQ(names(), std::vector<std::string>{"a.db"});
}

TEST_F(Rotation, AnOldFileGivesWayToANewOneThatIsCompleteToo) {
  CaptureFiles files(path("a.db"), {.age = 1h}, create_sqlite);
  ASSERT_TRUE(files.open(begun_));
  ASSERT_TRUE(files.add(*find_capture_table("meta"), {"schema", "petrel/capture/v1"}));
  add_loss(files, 1);
  EXPECT_FALSE(files.is_due(begun_ + 1h - 1ms));
  EXPECT_TRUE(files.is_due(begun_ + 1h));
  ASSERT_TRUE(files.rotate(begun_ + 1h + 5ms));
  EXPECT_FALSE(files.is_due(begun_ + 1h + 5ms));
  add_loss(files, 2);
  ASSERT_TRUE(files.close());
  ASSERT_EQ(names(), (std::vector<std::string>{"a-20260131T120000.000Z.db",
                                               "a-20260131T130000.005Z.db"}));
  for (int i : {0, 1}) {
    auto source = open_capture(path(names()[static_cast<std::size_t>(i)]));
    ASSERT_TRUE(source) << source.error().message();
    const TableRows rows = all_rows(**source);
    ASSERT_EQ(rows.at("meta").size(), 1u);
    EXPECT_EQ(rows.at("meta")[0][1], "petrel/capture/v1");
    ASSERT_EQ(rows.at("losses").size(), 1u);
    EXPECT_EQ(rows.at("losses")[0][0], std::to_string(i + 1));
  }
}

TEST_F(Rotation, ALargeFileGivesWay) {
  CaptureFiles files(path("a.db"), {.bytes = 256u << 10}, create_sqlite);
  ASSERT_TRUE(files.open(begun_));
  EXPECT_FALSE(files.is_due(begun_));
  for (int i = 0; i < 20000; ++i) add_loss(files, i);
  ASSERT_TRUE(files.flush());
  EXPECT_TRUE(files.is_due(begun_));
  ASSERT_TRUE(files.rotate(begun_ + 1s));
  EXPECT_FALSE(files.is_due(begun_ + 1s));
}

TEST_F(Rotation, KeepsTheNewestAndTouchesNothingElse) {
  write("a-20251231T000000.000Z.db", "of an earlier run");
  write("a-notes.db", "");
  write("ab-20251231T000000.000Z.db", "");
  write("a-20251231T000000.000Z.db.gz", "");
  CaptureFiles files(path("a.db"), {.age = 1h, .keep = 2}, create_sqlite);
  ASSERT_TRUE(files.open(begun_));
  EXPECT_EQ(names().size(), 5u);
  for (int i = 1; i <= 3; ++i) ASSERT_TRUE(files.rotate(begun_ + i * 1h));
  ASSERT_TRUE(files.close());
  EXPECT_EQ(names(), (std::vector<std::string>{
                         "a-20251231T000000.000Z.db.gz", "a-20260131T140000.000Z.db",
                         "a-20260131T150000.000Z.db", "a-notes.db", "ab-20251231T000000.000Z.db"}));
  EXPECT_EQ(files.files(), 4u);
}

TEST_F(Rotation, DirectoriesOfCsvRotateAsWell) {
  CaptureFiles files(path("csv/"), {.age = 1h, .keep = 1}, create_csv_directory);
  ASSERT_TRUE(files.open(begun_));
  ASSERT_TRUE(files.rotate(begun_ + 1h));
  ASSERT_TRUE(files.close());
  EXPECT_EQ(names(), std::vector<std::string>{"csv-20260131T130000.000Z"});
}

}  // namespace
}  // namespace petrel::test
