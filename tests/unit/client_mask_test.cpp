// SPDX-License-Identifier: MIT
// What of a client's address is kept: the reference vectors of SipHash, and no more than was asked.
#include "capture/client_mask.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "config/address.hpp"
#include "tests/unit/capture_samples.hpp"

namespace petrel::test {
namespace {

SipKey counting_key() {
  SipKey key;
  std::iota(key.begin(), key.end(), std::uint8_t{0});
  return key;
}

// vectors_sip64 of the reference implementation: key 00 01 .. 0f, input 00 01 .. (n - 1).
TEST(SipHash, GivesTheReferenceVectors) {
  const std::uint8_t expected[][8] = {
      {0x31, 0x0e, 0x0e, 0xdd, 0x47, 0xdb, 0x6f, 0x72}, {0xfd, 0x67, 0xdc, 0x93, 0xc5, 0x39, 0xf8, 0x74},
      {0x5a, 0x4f, 0xa9, 0xd9, 0x09, 0x80, 0x6c, 0x0d}, {0x2d, 0x7e, 0xfb, 0xd7, 0x96, 0x66, 0x67, 0x85},
      {0xb7, 0x87, 0x71, 0x27, 0xe0, 0x94, 0x27, 0xcf}, {0x8d, 0xa6, 0x99, 0xcd, 0x64, 0x55, 0x76, 0x18},
      {0xce, 0xe3, 0xfe, 0x58, 0x6e, 0x46, 0xc9, 0xcb}, {0x37, 0xd1, 0x01, 0x8b, 0xf5, 0x00, 0x02, 0xab},
      {0x62, 0x24, 0x93, 0x9a, 0x79, 0xf5, 0xf5, 0x93}, {0xb0, 0xe4, 0xa9, 0x0b, 0xdf, 0x82, 0x00, 0x9e},
      {0xf3, 0xb9, 0xdd, 0x94, 0xc5, 0xbb, 0x5d, 0x7a}, {0xa7, 0xad, 0x6b, 0x22, 0x46, 0x2f, 0xb3, 0xf4},
      {0xfb, 0xe5, 0x0e, 0x86, 0xbc, 0x8f, 0x1e, 0x75}, {0x90, 0x3d, 0x84, 0xc0, 0x27, 0x56, 0xea, 0x14},
      {0xee, 0xf2, 0x7a, 0x8e, 0x90, 0xca, 0x23, 0xf7}, {0xe5, 0x45, 0xbe, 0x49, 0x61, 0xca, 0x29, 0xa1},
      {0xdb, 0x9b, 0xc2, 0x57, 0x7f, 0xcc, 0x2a, 0x3f},
  };
  std::vector<std::uint8_t> input;
  for (const auto& bytes : expected) {
    std::uint64_t value = 0;
    for (int i = 7; i >= 0; --i) value = value << 8 | bytes[i];
    EXPECT_EQ(siphash24(counting_key(), input), value) << input.size() << " bytes";
    input.push_back(static_cast<std::uint8_t>(input.size()));
  }
}

std::string masked(const ClientMask& mask, const char* address) {
  return mask.text(mask.mask(*parse_address(address)));
}

TEST(ClientMask, TruncatesToTheNetwork) {
  const ClientMask mask(ClientPrivacy::kTruncate, {});
  EXPECT_EQ(masked(mask, "192.0.2.77"), "192.0.2.0");
  EXPECT_EQ(masked(mask, "2001:db8:1:2:3:4:5:6"), "2001:db8:1::");
}

TEST(ClientMask, HashesUnderItsKey) {
  const ClientMask mask(ClientPrivacy::kHash, counting_key());
  const bpf::address client = *parse_address("192.0.2.77");
  const std::string text = mask.text(mask.mask(client));
  char expected[17];
  std::snprintf(expected, sizeof(expected), "%016llx",
                static_cast<unsigned long long>(siphash24(counting_key(), client.bytes)));
  EXPECT_EQ(text, expected);
  EXPECT_NE(masked(mask, "192.0.2.78"), text);
  EXPECT_EQ(masked(mask, "192.0.2.77"), text);
  EXPECT_NE(masked(ClientMask(ClientPrivacy::kHash, {}), "192.0.2.77"), text);
  EXPECT_EQ(masked(mask, "2001:db8::1").size(), 16u);
}

TEST(ClientMask, KeepsAllUnlessAsked) {
  EXPECT_EQ(masked(ClientMask(), "192.0.2.77"), "192.0.2.77");
  EXPECT_EQ(masked(ClientMask(), "2001:db8:1:2:3:4:5:6"), "2001:db8:1:2:3:4:5:6");
}

class KeyFile : public CaptureFileTest {
 protected:
  void make(const std::string& bytes, unsigned mode) {
    write("key", bytes);
    std::filesystem::permissions(path("key"), std::filesystem::perms(mode));
  }
  std::string refusal() {
    const auto key = read_key_file(path("key"));
    if (key) return "";
    EXPECT_EQ(key.error().kind(), ExitCode::kInput);
    return key.error().message();
  }
};

TEST_F(KeyFile, IsReadWhereOnlyItsOwnerMay) {
  make("0123456789abcdef", 0600);
  const auto key = read_key_file(path("key"));
  ASSERT_TRUE(key) << key.error().message();
  EXPECT_EQ(std::memcmp(key->data(), "0123456789abcdef", 16), 0);
  make("0123456789abcdef", 0400);
  EXPECT_TRUE(read_key_file(path("key")));
}

TEST_F(KeyFile, IsRefusedWhereOthersMayReadIt) {
  for (const unsigned mode : {0640u, 0604u, 0620u, 0644u}) {
    make("0123456789abcdef", mode);
    EXPECT_NE(refusal().find("only its owner"), std::string::npos) << refusal();
  }
}

TEST_F(KeyFile, IsRefusedUnlessItHas16Bytes) {
  EXPECT_NE(refusal().find("ENOENT"), std::string::npos) << refusal();
  make("0123456789abcde", 0600);
  EXPECT_NE(refusal().find("expected 16 bytes, found 15"), std::string::npos) << refusal();
  make("0123456789abcdef\n", 0600);
  EXPECT_NE(refusal().find("expected 16 bytes, found more"), std::string::npos) << refusal();
  make("", 0600);
  EXPECT_NE(refusal().find("found 0"), std::string::npos) << refusal();
}

}  // namespace
}  // namespace petrel::test
