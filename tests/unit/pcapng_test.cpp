// SPDX-License-Identifier: MIT
// The tap's capture files: block by block against the format, and as tshark reads them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "tap/capture_file.hpp"
#include "tests/unit/tap_samples.hpp"

namespace petrel::tap {
namespace {

struct Block {
  std::uint32_t type;
  std::string body;
};

template <class T>
T number_at(const std::string& bytes, std::size_t offset) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

// Fails the test where the file is not a whole number of well-formed blocks.
std::vector<Block> blocks_of(const std::string& file) {
  std::vector<Block> blocks;
  for (std::size_t at = 0; at < file.size();) {
    const auto length = number_at<std::uint32_t>(file, at + 4);
    EXPECT_EQ(length % 4, 0u);
    EXPECT_LE(at + length, file.size());
    EXPECT_EQ(number_at<std::uint32_t>(file, at + length - 4), length);
    if (testing::Test::HasFailure()) return blocks;
    blocks.push_back({number_at<std::uint32_t>(file, at), file.substr(at + 8, length - 12)});
    at += length;
  }
  return blocks;
}

// The value of an option; "(none)" without it.
std::string option(const std::string& options, std::uint16_t wanted) {
  for (std::size_t at = 0; at + 4 <= options.size();) {
    const auto code = number_at<std::uint16_t>(options, at);
    const auto length = number_at<std::uint16_t>(options, at + 2);
    if (code == 0) break;
    if (code == wanted) return options.substr(at + 4, length);
    at += 4 + (length + 3u) / 4 * 4;
  }
  return "(none)";
}

std::string packet_options(const Block& block) {
  const auto captured = number_at<std::uint32_t>(block.body, 12);
  return block.body.substr(20 + (captured + 3) / 4 * 4);
}

std::string file_of(const std::vector<TappedPacket>& packets, CaptureFileOptions options = {}) {
  std::ostringstream out;
  CaptureFile file(out, std::move(options));
  for (const auto& packet : packets) file.write(packet, some_names());
  return out.str();
}

TEST(Pcapng, BeginsWithASectionThatNamesTheProgram) {
  const auto blocks = blocks_of(file_of({}, {.application = "petrel 1.2"}));
  ASSERT_EQ(blocks.size(), 1u);
  EXPECT_EQ(blocks[0].type, 0x0a0d0d0au);
  EXPECT_EQ(number_at<std::uint32_t>(blocks[0].body, 0), 0x1a2b3c4du);
  EXPECT_EQ(option(blocks[0].body.substr(16), 4), "petrel 1.2");
}

TEST(Pcapng, PairIsTwoPacketsOfOneId) {
  const auto blocks = blocks_of(file_of({forwarded()}));
  ASSERT_EQ(blocks.size(), 5u);  // section, interface, packet, interface, packet
  const std::string& in = blocks[2].body;
  const std::string& out = blocks[4].body;
  EXPECT_EQ(number_at<std::uint32_t>(packet_options(blocks[2]), 0) & 0xffff, 1u);  // comment first
  EXPECT_EQ(option(packet_options(blocks[2]), 5), option(packet_options(blocks[4]), 5));
  EXPECT_EQ(number_at<std::uint32_t>(option(packet_options(blocks[2]), 2), 0), 1u);
  EXPECT_EQ(number_at<std::uint32_t>(option(packet_options(blocks[4]), 2), 0), 2u);
  EXPECT_NE(number_at<std::uint32_t>(in, 0), number_at<std::uint32_t>(out, 0));
}

TEST(Pcapng, InterfacesCountInNanosecondsAndComeOnce) {
  const auto blocks = blocks_of(file_of({forwarded(), forwarded()}));
  ASSERT_EQ(blocks.size(), 7u);
  EXPECT_EQ(blocks[1].type, 1u);
  EXPECT_EQ(option(blocks[1].body.substr(8), 9), std::string(1, '\x09'));
  const std::string& packet = blocks[2].body;
  const std::uint64_t time = std::uint64_t{number_at<std::uint32_t>(packet, 4)} << 32 |
                             number_at<std::uint32_t>(packet, 8);
  EXPECT_EQ(time, kArrivalNs);
}

TEST(Pcapng, SnapshotLengthCutsThePacketAndKeepsItsTrueLength) {
  const auto blocks = blocks_of(file_of({forwarded()}, {.snapshot_bytes = 21}));
  EXPECT_EQ(number_at<std::uint32_t>(blocks[2].body, 12), 21u);
  EXPECT_EQ(number_at<std::uint32_t>(blocks[2].body, 16), 54u);
}

TEST(Pcapng, WhatStayedOnTheHostHasNoSecondPacket) {
  TappedPacket passed = forwarded();
  passed.departure->header.action = XDP_PASS;
  EXPECT_EQ(blocks_of(file_of({passed})).size(), 3u);
  EXPECT_EQ(blocks_of(file_of({passed}, {.sides = Sides::kOut})).size(), 1u);
  EXPECT_EQ(blocks_of(file_of({forwarded()}, {.sides = Sides::kOut})).size(), 3u);
  EXPECT_EQ(blocks_of(file_of({forwarded()}, {.sides = Sides::kIn})).size(), 3u);
}

TEST(Pcapng, SentBackIsSeenOnTheInterfaceItCameBy) {
  TappedPacket answered = forwarded();
  answered.departure->header.action = XDP_TX;
  EXPECT_EQ(blocks_of(file_of({answered})).size(), 4u);  // one interface
}

std::string tshark(const std::string& file, const std::string& arguments) {
  char path[] = "/tmp/petrel-pcapng-XXXXXX";
  const int fd = ::mkstemp(path);
  std::ofstream(path, std::ios::binary) << file;
  FILE* pipe = ::popen(("tshark -r " + std::string(path) + " " + arguments + " 2>&1").c_str(), "r");
  std::string text;
  std::array<char, 4096> buffer{};
  for (std::size_t read = 0; (read = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    text.append(buffer.data(), read);
  }
  ::pclose(pipe);
  ::close(fd);
  std::filesystem::remove(path);
  return text;
}

TEST(Pcapng, OpensInTshark) {
  if (std::system("tshark --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "needs tshark";
  const std::string fields =
      tshark(file_of({forwarded()}),
             "-o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -T fields -E separator='|' "
             "-e frame.interface_name -e frame.packet_flags_direction -e ip.dst -e tcp.dstport "
             "-e tcp.checksum.status -e frame.packet_id -e frame.comment");
  EXPECT_NE(fields.find("|10.9.9.9|80|"), std::string::npos) << fields;
  EXPECT_NE(fields.find("|10.1.0.2|8080|"), std::string::npos) << fields;
  EXPECT_NE(fields.find("petrel: forwarded (sent to a backend); service web, backend b1; "
                        "notes: off_ring (placed off its ring slot: busy, or at its limit)"),
            std::string::npos)
      << fields;
  EXPECT_NE(fields.find("as it left, by redirect"), std::string::npos) << fields;
  EXPECT_EQ(tshark(file_of({forwarded()}), "-V").find("alformed"), std::string::npos);
}

}  // namespace
}  // namespace petrel::tap
