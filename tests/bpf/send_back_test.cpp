// SPDX-License-Identifier: MIT
// Answers of our own leave by a redirect where the driver wants it (veth), with the same bytes.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kResets =
    bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_RESET_GONE;

struct SendBack : PathTest, testing::WithParamInterface<bool> {
  SendBack() : PathTest({.back_by_redirect = GetParam()}) {}
};

INSTANTIATE_TEST_SUITE_P(Drivers, SendBack, testing::Bool(),
                         [](const auto& it) { return it.param ? "Veth" : "Other"; });

TEST_P(SendBack, TakesTheWayThatTheDriverHas) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.set_service(*hosts, kResets);
    Conversation conversation(lb, *hosts, 40001);
    conversation.open();
    lb.set_state(hosts->b1, bpf::BACKEND_REMOVED);
    const Segment data = conversation.next_of_client(kAck | kPsh, "more");
    const Outcome out = lb.run(build(data));
    EXPECT_EQ(out.action, GetParam() ? XDP_REDIRECT : XDP_TX);
    EXPECT_EQ(hex(out.packet), hex(reset_of(data)));
    EXPECT_EQ(lb.verdicts_of(hosts->service)[bpf::VERDICT_GONE_RESET], 1U);
  }
}

}  // namespace
}  // namespace petrel::test
