// SPDX-License-Identifier: MIT
// The pure parts of petrel-traffic: the bytes of a request, and which of them may be sent again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>

#include "traffic/attempt.hpp"
#include "traffic/random.hpp"
#include "traffic/request_text.hpp"

namespace petrel::traffic {
namespace {

TEST(RequestText, HasNothingThatTellsOneRequestFromAnother) {
  const RequestText text{.host = "10.0.0.1:80", .path = "/p3"};
  EXPECT_EQ(to_bytes(text, 1), to_bytes(text, 2));
  EXPECT_EQ(to_bytes(text, 1),
            "GET /p3 HTTP/1.1\r\nHost: 10.0.0.1:80\r\nConnection: close\r\n\r\n");
}

TEST(RequestText, NamesTheRequestBehindAllElseOnlyWhenAsked) {
  const RequestText text{.host = "10.0.0.1:80", .keep_alive = true, .id_header = "X-Request"};
  const std::string bytes = to_bytes(text, 42);
  EXPECT_TRUE(bytes.ends_with("\r\nX-Request: 42\r\n\r\n")) << bytes;
  EXPECT_NE(bytes.find("\r\nConnection: keep-alive\r\n"), std::string::npos);
}

TEST(RequestText, PathsDifferOnlyWhereThereAreSeveral) {
  EXPECT_EQ(path_of(0, 1), "/");
  EXPECT_NE(path_of(0, 2), path_of(1, 2));
  EXPECT_NE(path_of(0, 2), kPollPath);
}

TEST(RequestText, APostTellsItsLengthAndRepeatsItsBody) {
  const RequestText text{.host = "10.0.0.1:80", .post_bytes = 3};
  EXPECT_EQ(to_bytes(text, 1), to_bytes(text, 2));
  EXPECT_EQ(to_bytes(text, 1),
            "POST / HTTP/1.1\r\nHost: 10.0.0.1:80\r\nConnection: close\r\n"
            "Content-Type: application/octet-stream\r\nContent-Length: 3\r\n\r\nxxx");
  EXPECT_TRUE(to_bytes({.host = "h", .post_bytes = 0}, 1).ends_with("Content-Length: 0\r\n\r\n"));
}

TEST(RequestText, BodiesHaveTheMeanAskedForAndDiffer) {
  Random random(1, Stream::kPosts);
  double sum = 0;
  std::set<std::uint64_t> lengths;
  for (int i = 0; i < 100000; ++i) {
    const std::uint64_t bytes = draw_post_bytes(2000, random);
    sum += static_cast<double>(bytes);
    lengths.insert(bytes);
  }
  // One has a standard deviation of 1.3 means, their mean one of 0.4 %.
  EXPECT_NEAR(sum / 100000, 2000, 50);
  EXPECT_GT(lengths.size(), 1000U);
}

TEST(RequestText, NoBodyIsLongerThanABackendTakes) {
  Random random(1, Stream::kPosts);
  std::uint64_t longest = 0;
  for (int i = 0; i < 10000; ++i) longest = std::max(longest, draw_post_bytes(1e6, random));
  EXPECT_EQ(longest, kMostPostBytes);
}

TEST(MayRepeat, APostOnlyWhereItsConnectionWasNeverEstablished) {
  const Attempt get{.outcome = Outcome::kReset, .reused = true};
  Attempt refused{.post_bytes = 10, .outcome = Outcome::kRefused};
  Attempt answered{.post_bytes = 10, .outcome = Outcome::kStatus};
  answered.connect_us = 200;
  const Attempt reused{.post_bytes = 10, .outcome = Outcome::kReset, .reused = true};
  EXPECT_TRUE(may_repeat(get, false));
  EXPECT_TRUE(may_repeat(refused, false));
  EXPECT_FALSE(may_repeat(answered, false));
  EXPECT_FALSE(may_repeat(reused, false));
  for (const Attempt& attempt : {get, refused, answered, reused}) {
    EXPECT_TRUE(may_repeat(attempt, true));
  }
}

}  // namespace
}  // namespace petrel::traffic
