// SPDX-License-Identifier: MIT
#include "tests/bpf/path_fixture.hpp"

#include <arpa/inet.h>

namespace petrel::test {
std::string hex(const Packet& packet) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < packet.size(); ++i) {
    if (i % 4 == 2) text += ' ';  // words of IP, which begins after 14 bytes
    text += {kDigits[packet[i] >> 4], kDigits[packet[i] & 15]};
  }
  return text;
}

Endpoint at_port(Endpoint endpoint, unsigned port) {
  endpoint.port = static_cast<std::uint16_t>(port);
  return endpoint;
}

Endpoint udp_vip(const Hosts& hosts) { return at_port(hosts.vip, 53); }
Endpoint udp_backend(const Hosts& hosts) { return at_port(hosts.backend(hosts.b4), 5353); }

void PathTest::SetUp() {
  BalancerTest::SetUp();
  if (IsSkipped() || HasFatalFailure()) return;
  for (const Hosts* hosts : {&v4(), &v6()}) {
    for (const Endpoint& client : {hosts->client, hosts->other_client}) {
      lb.set_route({128, client.address}, {kClientHop, 1500});
    }
  }
}

void PathTest::serve(const Served& served) {
  const std::uint32_t flags = bpf::SERVICE_READY | bpf::SERVICE_ACT | served.flags;
  const bool dsr = flags & bpf::SERVICE_DSR;
  const bool keeps_port = dsr || (flags & bpf::SERVICE_KEEP_PORT);
  lb.add_service({served.vip.address, htons(served.vip.port), served.protocol, 0}, served.id,
                 flags);
  std::vector<std::uint32_t> ids;
  for (const auto& [id, at] : served.backends) {
    bpf::backend backend{};
    backend.address = at.address;
    backend.vip = served.vip.address;
    backend.port_be = keeps_port ? 0 : htons(at.port);
    backend.vip_port_be = keeps_port ? 0 : htons(served.vip.port);
    backend.service_id = served.id;
    backend.state = bpf::BACKEND_UP;
    backend.mtu = served.mtu;
    backend.hop = hop_to(id);
    backend.service_flags = flags;
    lb.set_backend(id, backend);
    if (!dsr) lb.name_backend(keeps_port ? at_port(at, 0) : at, served.protocol, id);
    ids.push_back(id);
  }
  lb.fill_ring(served.id, ids);
  lb.fill_neutral(served.id, ids);
}

void PathTest::serve_ranges(const bpf::address& vip, const std::vector<bpf::port_range>& ranges) {
  bpf::vip value{};
  value.ranges = static_cast<std::uint32_t>(ranges.size());
  std::copy(ranges.begin(), ranges.end(), value.range);
  lb.add_vip(vip, value);
}

void PathTest::serve_udp(const Hosts& hosts, std::uint32_t flags) {
  serve({.vip = udp_vip(hosts), .id = hosts.other_service, .flags = flags,
         .backends = {{hosts.b4, udp_backend(hosts)}}});
}

void PathTest::expect(const Packet& in, int action, const Packet& expected,
                      const VerdictGrowth& counted) {
  const auto before = lb.verdicts();
  const Outcome out = lb.run(in);
  EXPECT_EQ(out.action, action);
  EXPECT_EQ(hex(out.packet), hex(expected));
  EXPECT_EQ(growth(before, lb.verdicts()), counted);
}

void PathTest::expect_sent(const Packet& in, const Packet& expected, const VerdictGrowth& counted) {
  EXPECT_EQ(frame_error(expected), "") << "the test's own";
  expect(in, XDP_REDIRECT, expected, counted);
}

void PathTest::expect_answered(const Packet& in, const Packet& expected,
                               const VerdictGrowth& counted) {
  EXPECT_EQ(frame_error(expected), "") << "the test's own";
  expect(in, XDP_TX, expected, counted);
}

void PathTest::expect_untouched(const Packet& in, const VerdictGrowth& counted) {
  expect(in, XDP_PASS, in, counted);
}

}  // namespace petrel::test
