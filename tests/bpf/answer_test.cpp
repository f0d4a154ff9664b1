// SPDX-License-Identifier: MIT
// Requests and answers by turns, as the wire sensor tells them, and the status of HTTP/1.x answers.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

struct Answers : BalancerTest {
  const Hosts& h = v4();

  void expect_turns(std::uint64_t requests, std::uint64_t answers) {
    const auto stats = lb.backend_stats(h.b1);
    EXPECT_EQ(stats.requests, requests);
    EXPECT_EQ(stats.answers, answers);
    EXPECT_EQ(lb.waiting(h.b1), static_cast<std::int64_t>(requests - answers));
  }
};

TEST_F(Answers, AKeptConnectionHasARequestATurn) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request().answer();
  expect_turns(1, 1);
  conversation.request();
  expect_turns(2, 1);
  conversation.answer();
  expect_turns(2, 2);
  EXPECT_EQ(conversation.entry().requests, 2U);
  EXPECT_EQ(lb.service_stats(h.service).first_attempts, 2U);
}

TEST_F(Answers, ARequestInSeveralSegmentsIsOne) {
  Conversation conversation(lb, h, 40001);
  conversation.open();
  conversation.request("POST / HTTP/1.1\r\n").request("Host: example\r\n\r\n").request("body");
  expect_turns(1, 0);
  conversation.answer();
  expect_turns(1, 1);
}

TEST_F(Answers, AnAnswerInSeveralSegmentsIsOne) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request().answer(200);
  conversation.from_backend(kAck, "body");
  conversation.from_backend(kAck, "HTTP/1.1 503 in a body");
  expect_turns(1, 1);
  EXPECT_EQ(conversation.entry().status, 200);
}

TEST_F(Answers, PipelinedRequestsAreTurnsOfTheirOwn) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request().request().answer().answer();
  expect_turns(2, 2);
}

TEST_F(Answers, WhatIsSentAheadAndCannotBeReadBelongsToTheWaitingRequest) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request("first").request("second");
  conversation.from_backend(kAck, "one");
  conversation.from_backend(kAck, "other");
  expect_turns(1, 1);
}

TEST_F(Answers, AClosingTurnIsCountedBeforeItsFin) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request();
  conversation.from_backend(kFinAck, response(200));
  expect_turns(1, 1);
  EXPECT_EQ(conversation.entry().failure, bpf::FAILURE_NONE);
}

TEST_F(Answers, ARepeatedRequestIsARepeatAndNoNewRequest) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request();
  conversation.repeat_client();
  expect_turns(1, 0);
  conversation.answer();
  conversation.repeat_client();  // its acknowledgement was lost
  expect_turns(1, 1);
  EXPECT_EQ(conversation.entry().client_repeats, 2);
  EXPECT_EQ(lb.backend_stats(h.b1).client_repeats, 2U);
}

TEST_F(Answers, ARepeatedAnswerDoesNotAnswerTheNextRequest) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request().answer().request();
  conversation.repeat_backend();
  expect_turns(2, 1);
  EXPECT_EQ(conversation.entry().backend_repeats, 1);
  EXPECT_EQ(lb.backend_stats(h.b1).backend_repeats, 1U);
}

TEST_F(Answers, BackendsThatSpeakFirstAnswerNothing) {
  Conversation conversation(lb, h, 40001);
  conversation.open();
  conversation.from_backend(kAck | kPsh, "220 mail.example\r\n");
  expect_turns(0, 0);
  conversation.request("HELO client\r\n");
  conversation.from_backend(kAck | kPsh, "250 good\r\n");
  expect_turns(1, 1);
}

TEST_F(Answers, StatusIsReadFromTheFirstBytes) {
  struct Case {
    std::string bytes;
    std::uint16_t status;
    std::uint8_t failure;
  };
  const std::vector<Case> cases{
      {response(200), 200, bpf::FAILURE_NONE},
      {response(302), 302, bpf::FAILURE_NONE},
      {response(404), 404, bpf::FAILURE_NONE},
      {response(429), 429, bpf::FAILURE_OVERLOAD},
      {response(500), 500, bpf::FAILURE_SERVER_ERROR},
      {response(503), 503, bpf::FAILURE_SERVER_ERROR},
      {response(599), 599, bpf::FAILURE_SERVER_ERROR},
      {"HTTP/1.0 204 No Content\r\n", 204, bpf::FAILURE_NONE},
      {"HTTP/1.1 200", 200, bpf::FAILURE_NONE},
      {"HTTP/1.1 20", 0, bpf::FAILURE_NONE},  // the status line comes in two segments
      {"H", 0, bpf::FAILURE_NONE},
      {"HTTP/2.0 503 x", 0, bpf::FAILURE_NONE},
      {"HTTP/1.1 600 x", 0, bpf::FAILURE_NONE},
      {"HTTP/1.1 099 x", 0, bpf::FAILURE_NONE},
      {"HTTP/1.1 5x3 x", 0, bpf::FAILURE_NONE},
      {"HTTP/1.1 50: x", 0, bpf::FAILURE_NONE},
      {"HTTP/1.1-503 x", 0, bpf::FAILURE_NONE},
      {"http/1.1 503 x", 0, bpf::FAILURE_NONE},
      {std::string("\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03\x00\x00", 13), 0,
       bpf::FAILURE_NONE},  // TLS
      {"HTTP/1.1 101 Switching Protocols\r\n", 101, bpf::FAILURE_NONE},  // nothing follows it
  };
  std::uint16_t port = 40000;
  for (const Case& test : cases) {
    SCOPED_TRACE(test.bytes);
    Endpoint client = h.client;  // of its own, so that no case is another's retry
    client.address.bytes[15] = static_cast<std::uint8_t>(++port);
    Conversation conversation(lb, h, client, h.vip, h.service);
    conversation.open().request();
    conversation.from_backend(kAck | kPsh, test.bytes);
    EXPECT_EQ(conversation.entry().status, test.status);
    EXPECT_EQ(conversation.entry().failure, test.failure);
    EXPECT_NE(conversation.entry().response_ns, 0U);
  }
  const auto stats = lb.backend_stats(h.b1);
  EXPECT_EQ(stats.answers, cases.size());
  EXPECT_EQ(stats.status_2xx, 3U);
  EXPECT_EQ(stats.status_3xx, 1U);
  EXPECT_EQ(stats.status_4xx, 1U);
  EXPECT_EQ(stats.overloads, 1U);
  EXPECT_EQ(stats.server_errors, 3U);
  EXPECT_EQ(lb.inflight(h.b1), 0);
}

TEST_F(Answers, TrailerBytesAreNoStatus) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request();
  Segment answer{.from = h.backend(h.b1), .to = {h.client.address, 40001}, .seq = 0xffffffd1,
                 .payload = "HTTP/1.1 503 x"};
  Packet packet = build(answer);
  store_be16(packet, kEthernetBytes + 2, 20 + 20 + 11);  // the datagram ends before the status does
  lb.run(packet);
  EXPECT_EQ(conversation.entry().status, 0);
  EXPECT_EQ(lb.backend_stats(h.b1).server_errors, 0U);
}

TEST_F(Answers, AnInterimAnswerIsNoneYet) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request("POST / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n").answer(100);
  expect_turns(1, 0);
  conversation.request("body").answer(103);
  expect_turns(1, 0);
  conversation.answer(503);
  expect_turns(1, 1);
  EXPECT_EQ(conversation.entry().status, 503);
}

}  // namespace
}  // namespace petrel::test
