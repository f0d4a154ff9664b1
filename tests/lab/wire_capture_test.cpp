// SPDX-License-Identifier: MIT
// What is on the wires, in each way to forward, as tshark sees it: no bad checksum, nothing that
// cannot be parsed, no RST that nobody sent.
//
//   client ── lb ─┬─ b1      tcpdump on the client's and the backends' eth0
//                 └─ b2
#include "tests/lab/daemons.hpp"
#include "tests/lab/lab_fixture.hpp"
#include "tests/lab/ways.hpp"
#include "tests/lab/wire_capture.hpp"

namespace petrel::test {
namespace {

constexpr int kFilePort = 81;
constexpr int kDnsPort = 53;
constexpr int kRounds = 4;
constexpr std::size_t kFileBytes = 300'000;

class WireCaptureTest : public LabTest, public testing::WithParamInterface<Way> {};

INSTANTIATE_TEST_SUITE_P(Ways, WireCaptureTest,
                         testing::Values(kNatV4, kNatV6, kIpip, kIp6ip6, kIpv4InIpv6),
                         [](const auto& it) { return it.param.name; });

TEST_P(WireCaptureTest, HoldsNoBadChecksumAndNoStrayReset) {
  const Way& way = GetParam();
  Lab lab(way.lab(2));
  const std::string file = lab.path("file");
  write_random_file(file, kFileBytes);
  start_file_servers(lab, kFilePort, file);
  start_dns_servers(lab, kDnsPort);
  lab.start_agent({.services = {{.name = "files", .port = kFilePort, .backend_port = kFilePort,
                                 .family = way.family},
                                {.name = "dns", .port = kDnsPort, .backend_port = kDnsPort,
                                 .family = way.family, .lines = "protocol = \"udp\"\n"}}});
  WireCapture capture(lab);
  const std::string vip = lab.vip(way.family);
  const std::string url = "http://" + (way.family == Family::kV6 ? "[" + vip + "]" : vip) + ":" +
                          std::to_string(kFilePort) + "/";
  const Finished transfers = lab.run_on("client", {"sh", "-ec",
      "for i in $(seq " + std::to_string(kRounds) + "); do "
      "curl -sS --fail --max-time 5 -o /dev/null " + url + "file; "
      "curl -sS --fail --max-time 5 --data-binary @" + file + " " + url + "; echo; "
      "dig +short +tries=1 +time=2 -p " + std::to_string(kDnsPort) + " @" + vip + " TXT " +
      kDnsName + "; done"});
  capture.end();

  EXPECT_EQ(transfers.exit_code, 0) << transfers.out << transfers.err;
  EXPECT_NE(transfers.out.find(sha256_of(file)), std::string::npos) << transfers.out;
  EXPECT_EQ(capture.faults(), "");
  // The client has met nobody but the VIP.
  EXPECT_EQ(capture.packets("client", "(tcp or udp) and not host " + vip), "");
  const std::string dns = "udp dst port " + std::to_string(kDnsPort);
  const std::string files = "tcp dst port " + std::to_string(kFilePort);
  if (way.dsr) {
    EXPECT_GT(capture.count_at_backends(way.outer), 100);
    EXPECT_EQ(capture.count_at_backends(dns + " or " + files), 0);  // none but within
  } else {
    EXPECT_GE(capture.count_at_backends(dns), kRounds);
    EXPECT_GT(capture.count_at_backends(files), 100);
  }
}

}  // namespace
}  // namespace petrel::test
