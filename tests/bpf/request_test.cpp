// SPDX-License-Identifier: MIT
// Requests, not just connections: where a turn begins and ends, and what pipelining, bodies in many
// packets, early answers and interim ones must not be taken for.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

const std::string kGet = "GET /a?id=1 HTTP/1.1\r\nHost: example\r\n\r\n";
const std::string kOtherGet = "GET /b HTTP/1.1\r\nHost: example\r\nAccept: */*\r\n\r\n";
const std::string kPost = "POST /form HTTP/1.1\r\nContent-Length: 4000\r\n\r\n";
const std::string kClientHello = std::string("\x16\x03\x01\x02", 4) + std::string(200, 'x');

struct Requests : BalancerTest {
  const Hosts& h = v4();

  void expect_waiting(std::int64_t requests) {
    EXPECT_EQ(lb.waiting(h.b1), requests);
    EXPECT_EQ(lb.inflight(h.b1), requests);
    EXPECT_EQ(lb.service_inflight(h.service), requests);
  }

  // {status of each ANSWER, in order}
  std::vector<int> statuses() {
    std::vector<int> out;
    for (const bpf::event& event : lb.events()) {
      if (event.type == bpf::EVENT_ANSWER) out.push_back(event.status);
    }
    return out;
  }

  void record() {
    lb.set_control({monotonic_now_ns(), std::uint64_t(std::chrono::nanoseconds(1h).count()), 1, 0,
                    1, 0});
  }
};

struct Method {
  std::string text;
  bpf::http_method method;
};

TEST_F(Requests, MethodsAreReadFromTheFirstBytes) {
  const std::vector<Method> methods{
      {"GET", bpf::METHOD_GET},         {"HEAD", bpf::METHOD_HEAD},
      {"POST", bpf::METHOD_POST},       {"PUT", bpf::METHOD_PUT},
      {"DELETE", bpf::METHOD_DELETE},   {"OPTIONS", bpf::METHOD_OPTIONS},
      {"PATCH", bpf::METHOD_PATCH},     {"CONNECT", bpf::METHOD_CONNECT},
      {"TRACE", bpf::METHOD_TRACE},
  };
  for (const Hosts* hosts : {&v4(), &v6()}) {
    std::uint16_t port = 41000;
    for (const Method& method : methods) {
      SCOPED_TRACE(hosts->family + " " + method.text);
      Conversation conversation(lb, *hosts, ++port);
      conversation.open().request(method.text + " /x HTTP/1.1\r\nHost: e\r\n\r\n");
      EXPECT_EQ(conversation.entry().method, method.method);
      EXPECT_TRUE(conversation.entry().flags & bpf::CONNECTION_HTTP);
      EXPECT_NE(conversation.entry().request_hash, 0);
    }
  }
}

TEST_F(Requests, WhatIsNoHttpIsATurnWithoutMethodOrHash) {
  const std::vector<std::string> others{
      kClientHello, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "GET", "x",
      "GETTING on", "POSTED by", "QUIT\r\n", "get / HTTP/1.1\r\n\r\n"};
  std::uint16_t port = 41000;
  for (const std::string& text : others) {
    SCOPED_TRACE(text);
    Conversation conversation(lb, h, ++port);
    conversation.open().request(text);
    EXPECT_EQ(conversation.entry().method, bpf::METHOD_NONE);
    EXPECT_FALSE(conversation.entry().flags & bpf::CONNECTION_HTTP);
    EXPECT_EQ(conversation.entry().request_hash, 0);
    EXPECT_EQ(conversation.entry().requests, 1U);
    expect_waiting(1);
    conversation.from_backend(kAck, "whatever");
    expect_waiting(0);
    conversation.request("more of it");  // each turn is a request
    EXPECT_EQ(conversation.entry().requests, 2U);
    conversation.from_backend(kAck, "again");
    expect_waiting(0);
  }
}

TEST_F(Requests, TheHashIsOfTheRequestsLineAlone) {
  const auto hash = [&](std::uint16_t port, const std::string& text) {
    Conversation conversation(lb, h, port);
    conversation.open().request(text);
    return conversation.entry().request_hash;
  };
  const std::uint16_t first = hash(41001, kGet);
  EXPECT_EQ(hash(41002, kGet), first);
  EXPECT_EQ(hash(41003, "GET /a?id=1 HTTP/1.1\r\nX-Attempt: 2\r\nHost: example\r\n\r\n"), first);
  EXPECT_NE(hash(41004, "GET /a?id=2 HTTP/1.1\r\nHost: example\r\n\r\n"), first);
  EXPECT_NE(hash(41005, "HEAD /a?id=1 HTTP/1.1\r\nHost: example\r\n\r\n"), first);
  // Longer than what is hashed: the first 128 bytes count.
  const std::string path(150, 'p');
  EXPECT_EQ(hash(41006, "GET /" + path + "1 HTTP/1.1\r\n\r\n"),
            hash(41007, "GET /" + path + "2 HTTP/1.1\r\n\r\n"));
  EXPECT_NE(hash(41008, "GET /1" + path + " HTTP/1.1\r\n\r\n"),
            hash(41009, "GET /2" + path + " HTTP/1.1\r\n\r\n"));
}

TEST_F(Requests, ABodyInManyPacketsIsOneRequest) {
  Conversation conversation(lb, h, 41001);
  conversation.open().request(kPost);
  for (int i = 0; i < 3; ++i) conversation.from_client(kAck, "GET /not-a-request" + kGet);
  expect_waiting(1);
  conversation.answer();
  EXPECT_EQ(conversation.entry().requests, 1U);
  expect_waiting(0);
  EXPECT_EQ(statuses(), std::vector<int>{200});
}

TEST_F(Requests, ABodyThatGoesOnAfterAnEarlyAnswerBeginsNoRequest) {
  Conversation conversation(lb, h, 41001);
  conversation.open().request(kPost);
  conversation.answer(413);
  for (int i = 0; i < 3; ++i) conversation.from_client(kAck, "the rest of the form\r\n");
  conversation.from_client(kAck, "ITS LAST LINE");
  EXPECT_EQ(conversation.entry().requests, 1U);
  expect_waiting(0);
  conversation.request(kGet);
  EXPECT_EQ(conversation.entry().requests, 2U);
  expect_waiting(1);
}

TEST_F(Requests, AnAnswerInManyPacketsEndsOneRequest) {
  Conversation conversation(lb, h, 41001);
  conversation.open().request(kGet).answer();
  conversation.from_backend(kAck, "HTTP is what this page is about");
  conversation.request(kOtherGet);
  expect_waiting(1);
  conversation.answer(404);
  EXPECT_EQ(statuses(), (std::vector<int>{200, 404}));
  expect_waiting(0);
}

TEST_F(Requests, AnInterimAnswerEndsNothing) {
  Conversation conversation(lb, h, 41001);
  conversation.open().request(kPost);
  conversation.from_backend(kAck, "HTTP/1.1 100 Continue\r\n\r\n");
  expect_waiting(1);
  conversation.from_backend(kAck, "HTTP/1.1 103 Early Hints\r\n\r\n" + response(503));
  EXPECT_EQ(statuses(), std::vector<int>{503});
  expect_waiting(0);
}

TEST_F(Requests, SwitchingProtocolsIsAnAnswer) {
  Conversation conversation(lb, h, 41001);
  conversation.open().request(kGet);
  conversation.from_backend(kAck, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
  EXPECT_EQ(statuses(), std::vector<int>{101});
  expect_waiting(0);
}

// --- pipelining -----------------------------------------------------------------------------------

TEST_F(Requests, SentAheadInTheirOwnPacketsWaitEachForItself) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 41001);
    conversation.open().request(kGet).request(kOtherGet).request("HEAD /c HTTP/1.1\r\n\r\n");
    EXPECT_EQ(lb.waiting(hosts->b1), 3);
    EXPECT_EQ(lb.inflight(hosts->b1), 3);
    EXPECT_EQ(conversation.entry().requests, 1U);
    EXPECT_EQ(conversation.entry().queued, 2);
    conversation.answer(200);
    EXPECT_EQ(conversation.entry().requests, 2U);
    EXPECT_EQ(conversation.entry().method, bpf::METHOD_GET);
    conversation.from_backend(kAck, "the first one's body");
    EXPECT_EQ(lb.waiting(hosts->b1), 2);
    conversation.answer(404);
    EXPECT_EQ(conversation.entry().method, bpf::METHOD_HEAD);
    conversation.answer(503);
    EXPECT_EQ(lb.waiting(hosts->b1), 0);
    EXPECT_EQ(lb.inflight(hosts->b1), 0);
    EXPECT_EQ(conversation.entry().requests, 3U);
    EXPECT_EQ(statuses(), (std::vector<int>{200, 404, 503}));
  }
}

TEST_F(Requests, SentAheadInOnePacketAreCounted) {
  Conversation conversation(lb, h, 41001);
  conversation.open().request(kGet + kOtherGet + kGet);
  expect_waiting(3);
  conversation.answer(200).answer(201).answer(202);
  EXPECT_EQ(statuses(), (std::vector<int>{200, 201, 202}));
  EXPECT_EQ(conversation.entry().requests, 3U);
  expect_waiting(0);
}

TEST_F(Requests, AnsweredInOnePacketAreAllAnswered) {
  Conversation conversation(lb, h, 41001);
  conversation.open().request(kGet + kOtherGet);
  conversation.from_backend(kAck, response(200) + response(500));
  EXPECT_EQ(statuses(), (std::vector<int>{200, 500}));
  EXPECT_EQ(conversation.entry().failure, bpf::FAILURE_SERVER_ERROR);
  expect_waiting(0);
}

TEST_F(Requests, AnAnswerBehindTheRestOfABodyIsFound) {
  Conversation conversation(lb, h, 41001);
  conversation.open().request(kGet).request(kOtherGet);
  conversation.answer(200);
  conversation.from_backend(kAck, std::string(700, 'H') + response(302));
  EXPECT_EQ(statuses(), (std::vector<int>{200, 302}));
  expect_waiting(0);
}

TEST_F(Requests, TimesOfThoseSentAheadAreWhenTheyCame) {
  record();
  Conversation conversation(lb, h, 41001);
  conversation.open().request(kGet);
  const auto before_ns = lb.now_ns();
  conversation.request(kOtherGet);
  const auto after_ns = lb.now_ns();
  conversation.answer(200);
  EXPECT_GE(conversation.entry().request_ns, before_ns);
  EXPECT_LE(conversation.entry().request_ns, after_ns);
}

TEST_F(Requests, MoreThanAreKeptAheadDoNotLeak) {
  Conversation conversation(lb, h, 41001);
  conversation.open();
  for (int i = 0; i < 9; ++i) conversation.request(kGet);
  expect_waiting(1 + QUEUED_REQUESTS);
  for (int i = 0; i < 9; ++i) conversation.answer(200);
  expect_waiting(0);
  EXPECT_EQ(statuses().size(), 1U + QUEUED_REQUESTS);
}

TEST_F(Requests, ThoseSentAheadWaitNoLongerWhenTheirConnectionEnds) {
  const std::vector<void (*)(Conversation&)> ends{
      [](Conversation& c) { c.client_fin(); }, [](Conversation& c) { c.client_rst(); },
      [](Conversation& c) { c.backend_fin(); }, [](Conversation& c) { c.backend_rst(); },
      [](Conversation& c) { c.answer().backend_rst(); },
  };
  std::uint16_t port = 41000;
  for (const auto& end : ends) {
    SCOPED_TRACE(port);
    Conversation conversation(lb, h, ++port);
    conversation.open().request(kGet).request(kGet).request(kGet);
    expect_waiting(3);
    end(conversation);
    expect_waiting(0);
  }
}

// --- records --------------------------------------------------------------------------------------

TEST_F(Requests, ARecordIsSentOnceNothingMoreCanBeSaidOfARequest) {
  record();
  Conversation conversation(lb, h, 41001);
  conversation.open().request(kGet).answer(200);
  conversation.from_backend(kAck, "body");
  EXPECT_TRUE(lb.records().empty());
  conversation.request(kOtherGet);
  auto records = lb.records();
  ASSERT_EQ(records.size(), 1U);
  const bpf::connection first = records[0].connection;
  EXPECT_EQ(first.requests, 1U);
  EXPECT_EQ(first.status, 200);
  EXPECT_EQ(first.method, bpf::METHOD_GET);
  EXPECT_EQ(first.owner, bpf::SENSOR_WIRE);
  EXPECT_LT(first.syn_ns, first.synack_ns);
  EXPECT_LT(first.synack_ns, first.ack_ns);
  EXPECT_LE(first.ack_ns, first.request_ns);
  EXPECT_LT(first.request_ns, first.response_ns);
  EXPECT_LT(first.response_ns, first.last_byte_ns);
  EXPECT_EQ(first.bytes_in - first.request_bytes_in, kGet.size());
  EXPECT_EQ(first.bytes_out - first.request_bytes_out, response(200).size() + 4);
  EXPECT_EQ(first.waiting_at_start, 0U);
  conversation.answer(503).client_fin();
  records = lb.records();
  ASSERT_EQ(records.size(), 1U);
  const bpf::connection second = records[0].connection;
  EXPECT_EQ(second.requests, 2U);
  EXPECT_EQ(second.status, 503);
  EXPECT_EQ(second.failure, bpf::FAILURE_SERVER_ERROR);
  EXPECT_EQ(second.closed_by, bpf::CLOSED_BY_CLIENT_FIN);
  EXPECT_EQ(second.bytes_in - second.request_bytes_in, kOtherGet.size());
}

TEST_F(Requests, WhatNeverHadARequestHasARecordToo) {
  record();
  Conversation refused(lb, h, 41001);
  refused.syn().backend_rst();
  Conversation silent(lb, h, 41002);
  silent.open().client_fin();
  const auto records = lb.records();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].connection.failure, bpf::FAILURE_REFUSED);
  EXPECT_EQ(records[0].connection.closed_by, bpf::CLOSED_BY_BACKEND_RST);
  EXPECT_EQ(records[0].connection.requests, 0U);
  EXPECT_EQ(records[1].connection.failure, bpf::FAILURE_NONE);
  EXPECT_EQ(records[1].connection.requests, 0U);
  EXPECT_NE(records[1].connection.ack_ns, 0U);
}

TEST_F(Requests, NobodyCapturesNothingIsSent) {
  Conversation conversation(lb, h, 41001);
  conversation.open().request(kGet).answer(200).client_fin();
  EXPECT_TRUE(lb.records().empty());
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_RECORD_LOST], 0U);
}

TEST_F(Requests, WaitingAtStartCountsTheOthersAtTheBackend) {
  Conversation first(lb, h, 41001), second(lb, h, 41002);
  first.open().request(kGet);
  second.open().request(kGet);
  EXPECT_EQ(first.entry().waiting_at_start, 0U);
  EXPECT_EQ(second.entry().waiting_at_start, 1U);
}

TEST_F(Requests, AClosedWindowIsCountedForTheEndThatClosedIt) {
  Conversation conversation(lb, h, 41001);
  conversation.open();
  Segment closed = conversation.next_of_client(kAck);
  closed.window = 0;
  lb.run(build(closed));
  EXPECT_EQ(conversation.entry().zero_windows_in, 1);
  EXPECT_EQ(conversation.entry().zero_windows_out, 0);
  closed = conversation.next_of_backend(kAck);
  closed.window = 0;
  lb.run(build(closed));
  lb.run(build(closed));
  EXPECT_EQ(conversation.entry().zero_windows_out, 2);
  conversation.client_rst();  // a RST's window means nothing
  EXPECT_EQ(conversation.entry().zero_windows_in, 1);
}

}  // namespace
}  // namespace petrel::test
