// SPDX-License-Identifier: MIT
// The events ring buffer holds two kinds of samples, told apart by their size.
#include <gtest/gtest.h>

#include <array>

#include "maps/readers.hpp"

namespace petrel {
namespace {

TEST(EventReader, TellsEventsFromRecordsByTheirSize) {
  std::vector<std::uint64_t> events, records;
  const EventReader::Handlers handlers{
      [&](const bpf::event& event) { events.push_back(event.time_ns); },
      [&](const bpf::record& record) { records.push_back(record.time_ns); }};
  bpf::event event{};
  event.time_ns = 1;
  bpf::record record{};
  record.time_ns = 2;
  handlers.take(&event, sizeof event);
  handlers.take(&record, sizeof record);
  handlers.take(&event, sizeof event);
  EXPECT_EQ(events, (std::vector<std::uint64_t>{1, 1}));
  EXPECT_EQ(records, std::vector<std::uint64_t>{2});
}

TEST(EventReader, LeavesOutWhatIsNeither) {
  int taken = 0;
  const EventReader::Handlers handlers{[&](const bpf::event&) { ++taken; },
                                       [&](const bpf::record&) { ++taken; }};
  alignas(8) const std::array<std::byte, 512> other{};
  for (const std::size_t bytes : {std::size_t{0}, sizeof(bpf::event) - 1, sizeof(bpf::event) + 8,
                                  sizeof(bpf::record) + 8}) {
    handlers.take(other.data(), bytes);
  }
  EXPECT_EQ(taken, 0);
}

}  // namespace
}  // namespace petrel
