// SPDX-License-Identifier: MIT
// Programs that people use every day, through services whose weights change ten times a second:
// nothing breaks, and what is connected stays where it is.
//
//   client ── lb ─┬─ b1   all slots of each ring go to the next backend each 100 ms
//                 ├─ b2
//                 └─ b3
#include <algorithm>
#include <set>
#include <sstream>

#include "tests/lab/daemons.hpp"
#include "tests/lab/lab_fixture.hpp"
#include "tests/lab/ring_turner.hpp"

namespace petrel::test {
namespace {

constexpr int kFilePort = 81;
constexpr int kSshPort = 22;
constexpr int kDnsPort = 53;
constexpr int kIperfPort = 5201;
constexpr std::size_t kMegabyte = 1 << 20;

std::string url(const Lab& lab, Family family) {
  const std::string vip = lab.vip(family);
  return "http://" + (family == Family::kV6 ? "[" + vip + "]" : vip) + ":" +
         std::to_string(kFilePort) + "/";
}

std::vector<std::string> shell(const std::string& script) { return {"sh", "-ec", script}; }

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// RSTs that the stack of a node has sent since the lab was raised.
std::string resets_sent(const Lab& lab, const std::string& node) {
  return lab.run_on(node, shell("nstat -asz TcpOutRsts | awk '/TcpOutRsts/ {print $2}'")).out;
}

class ToolsTest : public LabTest, public testing::WithParamInterface<Family> {};

INSTANTIATE_TEST_SUITE_P(Families, ToolsTest, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& it) { return it.param == Family::kV4 ? "V4" : "V6"; });

TEST_P(ToolsTest, CurlDownloadsArriveWhole) {
  Lab lab({.families = {GetParam()}});
  const std::string file = lab.path("file");
  write_random_file(file, 6 * kMegabyte);
  start_file_servers(lab, kFilePort, file);
  lab.start_agent({.services = {{.name = "files", .port = kFilePort, .backend_port = kFilePort,
                                 .family = GetParam()}}});
  RingTurner turner(lab.pin_path());

  // Two seconds each, some twenty turns of the ring.
  std::vector<Process*> downloads;
  for (int i = 0; i < 6; ++i) {
    downloads.push_back(&lab.start(
        "client", {"curl", "-sS", "--fail", "--max-time", "20", "-o",
                   lab.path("copy" + std::to_string(i)), url(lab, GetParam()) + "paced"}));
  }
  // Beside them short ones, each on a connection of its own and one after the other.
  const Finished shorts = lab.run_on(
      "client", shell("for i in $(seq 80); do curl -sS --fail --max-time 5 " +
                      url(lab, GetParam()) + "; done"));
  for (std::size_t i = 0; i < downloads.size(); ++i) {
    EXPECT_EQ(downloads[i]->wait(20s), 0) << downloads[i]->err();
    EXPECT_TRUE(same_contents(file, lab.path("copy" + std::to_string(i))));
  }
  EXPECT_EQ(shorts.exit_code, 0) << shorts.err;
  const auto answers = lines_of(shorts.out);
  EXPECT_EQ(std::set(answers.begin(), answers.end()), (std::set<std::string>{"b1", "b2", "b3"}));
  // A segment that goes astray is answered with a RST, even where the transfer comes through it.
  for (const char* node : {"client", "b1", "b2", "b3"}) {
    EXPECT_EQ(resets_sent(lab, node), "0\n") << node;
  }
  EXPECT_GE(turner.turns(), 15);
}

TEST_P(ToolsTest, SshCopiesBothWaysWhole) {
  Lab lab({.families = {GetParam()}});
  Sshd sshd(lab, kSshPort);
  const std::string file = lab.path("file");
  write_random_file(file, 20 * kMegabyte);
  lab.start_agent({.services = {{.name = "ssh", .port = kSshPort, .backend_port = kSshPort,
                                 .family = GetParam()}}});
  RingTurner turner(lab.pin_path());

  // 20 MB there and back through one session, in ten pieces, so that the ring turns meanwhile.
  const std::string in_pieces = "for i in $(seq 0 9); do dd if=" + file +
                                " bs=2M count=1 skip=$i status=none; sleep 0.15; done";
  std::vector<Process*> copies;
  for (int i = 0; i < 2; ++i) {
    copies.push_back(&lab.start("client", shell("(" + in_pieces + ") | " +
                                                sshd.client_line(GetParam(), "cat") + " > " +
                                                lab.path("copy" + std::to_string(i)))));
  }
  const Finished sessions = lab.run_on(
      "client", shell("for i in $(seq 6); do " + sshd.client_line(GetParam(), "echo in") +
                      "; done"));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(copies[i]->wait(20s), 0) << copies[i]->err();
    EXPECT_TRUE(same_contents(file, lab.path("copy" + std::to_string(i))));
  }
  EXPECT_EQ(sessions.out, "in\nin\nin\nin\nin\nin\n") << sessions.err;
  EXPECT_GE(turner.turns(), 15);
}

TEST_P(ToolsTest, IperfRunsToItsEnd) {
  Lab lab({.families = {GetParam()}});
  start_iperf_servers(lab, kIperfPort);
  // Its connections belong together: all of a client's go to one backend.
  lab.start_agent({.services = {{.name = "iperf", .port = kIperfPort, .backend_port = kIperfPort,
                                 .family = GetParam(), .lines = "affinity = \"client\"\n"}}});
  Process& iperf = lab.start("client", {"iperf3", "--client", lab.vip(GetParam()), "--port",
                                        std::to_string(kIperfPort), "--time", "5", "--bitrate",
                                        "20M", "--parallel", "2", "--json"});
  const auto connected = [&] {
    return lines_of(lab.run_on("client", {"ss", "-Htn", "state", "established",
                                          "( dport = :" + std::to_string(kIperfPort) + " )"})
                        .out)
               .size() == 3;
  };
  await("iperf3 has made its connections", connected);
  RingTurner turner(lab.pin_path());
  EXPECT_EQ(iperf.wait(20s), 0) << iperf.out();
  const Facts report(iperf.out());
  // Of 2 x 20 Mbit/s for 5 s.
  EXPECT_NEAR(report.number("/end/sum_received/bytes"), 25e6, 5e6);
  EXPECT_GE(turner.turns(), 40);
}

// Queries of `times` flows of one source port each, and of one flow; the answers by line, empty
// ones for queries that were not answered.
std::vector<std::string> ask(Lab& lab, Family family, int times, const std::string& source) {
  const std::string query = "dig +short +tries=1 +time=1 " + source + " -p " +
                            std::to_string(kDnsPort) + " @" + lab.vip(family) + " TXT " + kDnsName;
  return lines_of(lab.run_on("client", shell("for i in $(seq " + std::to_string(times) + "); do " +
                                             query + " || echo; sleep 0.01; done"))
                      .out);
}

TEST_P(ToolsTest, DigIsAnsweredEachTime) {
  Lab lab({.families = {GetParam()}});
  start_dns_servers(lab, kDnsPort);
  lab.start_agent({.services = {{.name = "dns", .port = kDnsPort, .backend_port = kDnsPort,
                                 .family = GetParam(), .lines = "protocol = \"udp\"\n"}}});
  RingTurner turner(lab.pin_path());
  const auto answers = ask(lab, GetParam(), 60, "");
  EXPECT_EQ(std::count(answers.begin(), answers.end(), ""), 0);
  EXPECT_EQ(std::set(answers.begin(), answers.end()),
            (std::set<std::string>{"\"b1\"", "\"b2\"", "\"b3\""}));

  // From one port it is one flow, which stays with its backend.
  const std::string any = GetParam() == Family::kV4 ? "0.0.0.0" : "::";
  const auto same = ask(lab, GetParam(), 30, "-b '" + any + "#40000'");
  EXPECT_EQ(same.size(), 30u);
  EXPECT_EQ(std::set(same.begin(), same.end()).size(), 1u);
  EXPECT_GE(turner.turns(), 10);
}

}  // namespace
}  // namespace petrel::test
