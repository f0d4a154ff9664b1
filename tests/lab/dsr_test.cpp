// SPDX-License-Identifier: MIT
// Direct server return: backends take off what the balancer puts around packets, and answer the
// client themselves from the VIP on their lo.
//
//   client ── lb ─┬─ b1   VIP on lo; eth0 decapsulates
//     │           ├─ b2
//     │           └─ b3
//     └── requests: encapsulated by lb's XDP. Answers: routed by lb's kernel, as any router would
#include <algorithm>
#include <optional>

#include "tests/lab/daemons.hpp"
#include "tests/lab/lab_fixture.hpp"
#include "tests/lab/ways.hpp"
#include "tests/lab/wire_capture.hpp"

namespace petrel::test {
namespace {

constexpr int kFilePort = 81;
constexpr int kMtu = 1500;
constexpr std::size_t kMegabyte = 1 << 20;

class DsrTest : public LabTest, public testing::WithParamInterface<Way> {};

INSTANTIATE_TEST_SUITE_P(Ways, DsrTest, testing::Values(kIpip, kIp6ip6, kIpv4InIpv6),
                         [](const auto& it) { return it.param.name; });

TEST_P(DsrTest, RequestsAreAnsweredByAllBackends) {
  Lab lab(GetParam().lab(3));
  lab.start_agent();
  Process& client =
      lab.start_client({"--rate", "150", "--duration", "2", "--log", lab.path("log")},
                       GetParam().family);
  const Summary summary = lab.await_client(client);
  EXPECT_EQ(summary.failed(), 0) << summary.outcomes();
  EXPECT_EQ(lab.answered(), summary.attempts());
  const auto attempts = read_attempts(lab.path("log"));
  for (const char* backend : {"b1", "b2", "b3"}) {
    EXPECT_GT(std::count_if(attempts.begin(), attempts.end(),
                            [&](const LoggedAttempt& each) { return each.backend == backend; }),
              20) << backend;
  }
}

const std::string kTooBigV4 = "icmp[0] == 3 and icmp[1] == 4";
const std::string kTooBigV6 = "ip6[6] == 58 and ip6[40] == 2";

// 1 MB to a backend, captured at both ends.
//
//   client ── lb ── b1
class DsrUpload {
 public:
  DsrUpload(const Way& way, int mtu, bool client_side_only) : way_(way), lab_(way.lab(1, mtu)) {
    const std::string file = lab_.path("file");
    write_random_file(file, kMegabyte);
    start_file_servers(lab_, kFilePort, file);
    lab_.start_agent({.client_side_only = client_side_only,
                      .services = {{.name = "files", .port = kFilePort, .family = way.family}}});
    capture_.emplace(lab_);
    const std::string vip = lab_.vip(way.family);
    const Finished upload = lab_.run_on(
        "client", {"curl", "-sS", "--fail", "--max-time", "10", "--data-binary", "@" + file,
                   "http://" + (way.family == Family::kV6 ? "[" + vip + "]" : vip) + ":" +
                       std::to_string(kFilePort) + "/"});
    capture_->end();
    EXPECT_EQ(upload.exit_code, 0) << upload.err;
    EXPECT_EQ(upload.out, sha256_of(file));
    EXPECT_EQ(capture_->faults(), "");
  }

  // What the client's kernel thinks of the path, "" for nothing.
  bool client_has_mtu(int mtu) {
    const std::string route =
        lab_.run_on("client", {"ip", "-o", "route", "get", lab_.vip(way_.family)}).out;
    return route.find(" mtu " + std::to_string(mtu) + " ") != std::string::npos;
  }
  // Only where "too big" comes from the VIP, and says so much.
  std::string too_big_with(int mtu) {
    const std::string host = " and src host " + lab_.vip(way_.family);
    return capture_->packets("client", way_.family == Family::kV4
                                           ? kTooBigV4 + host + " and icmp[6:2] == " +
                                                 std::to_string(mtu)
                                           : kTooBigV6 + host + " and ip6[44:4] == " +
                                                 std::to_string(mtu));
  }
  std::string too_big() {
    return capture_->packets("client", "(" + kTooBigV4 + ") or (" + kTooBigV6 + ")");
  }
  // MSS is the first option of Linux's SYN-ACKs.
  std::string syn_ack_with_mss(int mss) {
    const std::string tcp = way_.family == Family::kV4 ? "ip[20 + " : "ip6[40 + ";
    return capture_->packets("client", tcp + "13] == 0x12 and " + tcp + "20:2] == 0x0204 and " +
                                           tcp + "22:2] == " + std::to_string(mss));
  }

 private:
  Way way_;
  Lab lab_;
  std::optional<WireCapture> capture_;
};

TEST_P(DsrTest, TooBigAPacketLowersTheClientsPathMtuAndAllArrives) {
  // Nobody lowers the MSS: the SYN-ACK does not pass petrel, which is what direct return means.
  DsrUpload upload(GetParam(), kMtu, true);
  const int mtu = kMtu - GetParam().outer_bytes;
  EXPECT_NE(upload.too_big_with(mtu), "") << upload.too_big();
  EXPECT_TRUE(upload.client_has_mtu(mtu));
}

TEST_P(DsrTest, ASynAckThatPassesHasItsMssLoweredAndNothingIsTooBig) {
  DsrUpload upload(GetParam(), kMtu, false);
  EXPECT_NE(upload.syn_ack_with_mss(kMtu - GetParam().outer_bytes - GetParam().ip_bytes() - 20),
            "");
  EXPECT_EQ(upload.too_big(), "");
}

TEST_P(DsrTest, WhereTheLinkHasRoomNothingIsTooBig) {
  DsrUpload upload(GetParam(), kMtu + GetParam().outer_bytes, true);
  EXPECT_EQ(upload.too_big(), "");
  EXPECT_FALSE(upload.client_has_mtu(kMtu - GetParam().outer_bytes));
}

}  // namespace
}  // namespace petrel::test
