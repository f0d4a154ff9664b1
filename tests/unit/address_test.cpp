// SPDX-License-Identifier: MIT
// Addresses as text and as the maps hold them.
#include "config/address.hpp"

#include <gtest/gtest.h>

namespace petrel {
namespace {

TEST(Address, BothFamiliesGoThereAndBack) {
  for (const char* text : {"10.0.0.1", "255.255.255.255", "fd00::1", "::1", "2001:db8::a:0:1"}) {
    const auto address = parse_address(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(to_string(*address), text);
  }
  EXPECT_TRUE(same_address(*parse_address("::ffff:10.0.0.1"), *parse_address("10.0.0.1")));
  EXPECT_FALSE(same_address(*parse_address("10.0.0.2"), *parse_address("10.0.0.1")));
  EXPECT_TRUE(is_v4(*parse_address("10.0.0.1")));
  EXPECT_FALSE(is_v4(*parse_address("::10.0.0.1")));
  EXPECT_EQ(parse_address("10.0.0.1")->bytes[10], 0xff);
  EXPECT_EQ(endpoint_text(*parse_address("10.0.0.1"), 80), "10.0.0.1:80");
  EXPECT_EQ(endpoint_text(*parse_address("fd00::1"), 80), "[fd00::1]:80");
}

TEST(Address, EndpointsOfSeveralPortsAreShownAsTheFileHasThem) {
  const bpf::address v4 = *parse_address("10.0.0.1");
  EXPECT_EQ(endpoint_text(v4, 80, 80), "10.0.0.1:80");
  EXPECT_EQ(endpoint_text(v4, 8000, 8099), "10.0.0.1:8000-8099");
  EXPECT_EQ(endpoint_text(v4, 1, 65535), "10.0.0.1:1-65535");
  EXPECT_EQ(endpoint_text(*parse_address("fd00::1"), 0, 65535), "[fd00::1]:all");
}

TEST(Address, WhatIsNoneIsRefused) {
  for (const char* text :
       {"", "10.0.0", "10.0.0.256", "web", "fe80::1%eth0", "10.0.0.1:80", "fd00::g"}) {
    EXPECT_FALSE(parse_address(text)) << text;
  }
  EXPECT_FALSE(is_one_host(*parse_address("255.255.255.255")));
  EXPECT_TRUE(is_one_host(*parse_address("127.0.0.1")));
}

}  // namespace
}  // namespace petrel
