// SPDX-License-Identifier: MIT
// TapReader against real perf buffers, filled by a small program under BPF_PROG_TEST_RUN.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/unique_fd.hpp"
#include "bpf/types.h"
#include "tap/reader.hpp"

namespace petrel::tap {
namespace {

using namespace std::chrono_literals;

constexpr bpf_insn instruction(int code, int destination, int source, int offset, int immediate) {
  return {static_cast<__u8>(code), static_cast<__u8>(destination & 0xf),
          static_cast<__u8>(source & 0xf), static_cast<__s16>(offset), immediate};
}

// XDP: bpf_perf_event_output(ctx, taps, snapshot << 32 | BPF_F_CURRENT_CPU, header, sizeof header)
// with a header of zeros but for sequence = 7 and packet_bytes = the packet's length.
UniqueFd load_tapping_program(int taps, int snapshot_bytes) {
  constexpr int kHeader = sizeof(bpf::tap_header);
  std::vector<bpf_insn> program = {instruction(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0)};
  for (int at = 0; at < kHeader; at += 8) {
    program.push_back(instruction(BPF_ST | BPF_MEM | BPF_DW, 10, 0, at - kHeader, 0));
  }
  const std::array rest = {
      instruction(BPF_ST | BPF_MEM | BPF_W, 10, 0,
                  static_cast<int>(offsetof(bpf::tap_header, sequence)) - kHeader, 7),
      instruction(BPF_LDX | BPF_MEM | BPF_W, 2, 6, offsetof(xdp_md, data_end), 0),
      instruction(BPF_LDX | BPF_MEM | BPF_W, 3, 6, offsetof(xdp_md, data), 0),
      instruction(BPF_ALU64 | BPF_SUB | BPF_X, 2, 3, 0, 0),
      instruction(BPF_STX | BPF_MEM | BPF_W, 10, 2,
                  static_cast<int>(offsetof(bpf::tap_header, packet_bytes)) - kHeader, 0),
      instruction(BPF_ALU64 | BPF_MOV | BPF_X, 1, 6, 0, 0),
      instruction(BPF_LD | BPF_IMM | BPF_DW, 2, BPF_PSEUDO_MAP_FD, 0, taps),
      instruction(0, 0, 0, 0, 0),
      instruction(BPF_LD | BPF_IMM | BPF_DW, 3, 0, 0, -1),  // BPF_F_CURRENT_CPU
      instruction(0, 0, 0, 0, snapshot_bytes),
      instruction(BPF_ALU64 | BPF_MOV | BPF_X, 4, 10, 0, 0),
      instruction(BPF_ALU64 | BPF_ADD | BPF_K, 4, 0, 0, -kHeader),
      instruction(BPF_ALU64 | BPF_MOV | BPF_K, 5, 0, 0, kHeader),
      instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_perf_event_output),
      instruction(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS),
      instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  program.insert(program.end(), rest.begin(), rest.end());
  return UniqueFd(
      bpf_prog_load(BPF_PROG_TYPE_XDP, "tap_test", "GPL", program.data(), program.size(), nullptr));
}

struct TapReaderTest : testing::Test {
  void SetUp() override {
    taps.reset(bpf_map_create(BPF_MAP_TYPE_PERF_EVENT_ARRAY, "taps", 4, 4, 256, nullptr));
    if (!taps) GTEST_SKIP() << "needs CAP_BPF";
    auto opened = TapReader::open_fd(
        taps.get(), [this](Sample sample) { samples.push_back(std::move(sample)); });
    ASSERT_TRUE(opened) << opened.error().message();
    reader.emplace(std::move(*opened));
  }

  void send(const UniqueFd& program, std::size_t packet_bytes, int repeat = 1) {
    std::vector<std::byte> packet(packet_bytes);
    for (std::size_t i = 0; i < packet.size(); ++i) packet[i] = static_cast<std::byte>(i);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(),
                .data_size_in = static_cast<__u32>(packet.size()), .repeat = repeat);
    ASSERT_EQ(bpf_prog_test_run_opts(program.get(), &options), 0);
  }

  UniqueFd taps;
  std::vector<Sample> samples;
  std::optional<TapReader> reader;
};

TEST_F(TapReaderTest, HandsOverHeaderAndPacket) {
  for (const int bytes : {60, 61, 62, 63, 64, 65, 66, 67, 68}) {
    const UniqueFd program = load_tapping_program(taps.get(), bytes);
    ASSERT_TRUE(program) << errno;
    send(program, static_cast<std::size_t>(bytes));
    samples.clear();
    ASSERT_TRUE(reader->poll(0ms));
    ASSERT_EQ(samples.size(), 1u);
    EXPECT_EQ(samples[0].header.sequence, 7u);
    EXPECT_EQ(samples[0].header.packet_bytes, static_cast<std::uint32_t>(bytes));
    ASSERT_EQ(samples[0].bytes.size(), static_cast<std::size_t>(bytes));
    EXPECT_EQ(samples[0].bytes.back(), static_cast<std::byte>(bytes - 1));
  }
}

TEST_F(TapReaderTest, CutPacketEndsBeforePadding) {
  for (int cut = 100; cut < 116; ++cut) {
    const UniqueFd program = load_tapping_program(taps.get(), cut);
    send(program, 1000);
    samples.clear();
    ASSERT_TRUE(reader->poll(0ms));
    ASSERT_EQ(samples.size(), 1u);
    EXPECT_LE(samples[0].bytes.size(), static_cast<std::size_t>(cut));
    EXPECT_GT(samples[0].bytes.size(), static_cast<std::size_t>(cut) - 8);
    for (std::size_t i = 0; i < samples[0].bytes.size(); ++i) {
      ASSERT_EQ(samples[0].bytes[i], static_cast<std::byte>(i));
    }
  }
}

// A CPU tells of its own losses, with its own next record: all of this is to be one CPU's.
TEST_F(TapReaderTest, LostRecordsAreCounted) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  const UniqueFd program = load_tapping_program(taps.get(), 1000);
  constexpr int kSent = 40000;  // 42 MB: more than any buffer
  send(program, 1000, kSent);
  ASSERT_TRUE(reader->poll(0ms));
  send(program, 1000);  // the kernel tells of a loss with the next record that fits
  ASSERT_TRUE(reader->poll(0ms));
  EXPECT_GT(reader->lost(), 0u);
  EXPECT_EQ(samples.size() + reader->lost(), kSent + 1u);
  sched_setaffinity(0, sizeof(before), &before);
}

TEST_F(TapReaderTest, WaitsNoLongerThanAsked) {
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_TRUE(reader->poll(30ms));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 5s);
  EXPECT_TRUE(samples.empty());
}

TEST_F(TapReaderTest, MissingMapIsNamed) {
  const auto missing = TapReader::open("/sys/fs/bpf/petrel-none/taps", [](Sample) {});
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message().find("/sys/fs/bpf/petrel-none/taps"), std::string::npos);
}

}  // namespace
}  // namespace petrel::tap
