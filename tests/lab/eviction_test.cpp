// SPDX-License-Identifier: MIT
// More requests wait than `connections` has room for: the kernel evicts flows that cannot tell how
// they ended.
//
//   client ── lb (room for some 1,200 connections) ── b1   hangs
#include <csignal>

#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using namespace std::chrono_literals;

using EvictionTest = LabTest;

TEST_F(EvictionTest, WhatAnEvictedFlowWaitedForIsGivenBackAndCounted) {
  Lab lab({.backends = 1});
  lab.start_agent({.mode = "shadow", .agent_lines = "max_connections = 1024"});
  EXPECT_EQ(lab.status().number("/losses/evicted"), 0);
  lab.fault(1, "hang");
  Process& client = lab.start_client({"--rate", "500", "--duration", "3", "--timeout-ms", "60000"});
  const Status full = lab.eventually(
      "evictions",
      [](const Status& s) {
        const double evicted = s.number("/losses/evicted");
        return evicted > 0 &&
               s.backend(1, "wire/requests") - evicted == s.number("/audit/connections_open");
      },
      30s);  // an audit each 5 s, which leaves the newest to the next
  EXPECT_EQ(full.number("/losses/waits_leaked"), full.number("/losses/evicted"));
  EXPECT_EQ(full.backend(1, "waits_leaked"), full.number("/losses/evicted"));
  const Finished text = lab.petrel({"status", "-s", lab.socket()});
  EXPECT_NE(text.out.find("evicted with a request "), std::string::npos) << text.out;

  client.send(SIGKILL);
  client.wait();
  lab.eventually("nothing waits",
                 [](const Status& s) { return s.sum("waiting") == 0 && s.sum("inflight") == 0; });
}

}  // namespace
}  // namespace petrel::test
