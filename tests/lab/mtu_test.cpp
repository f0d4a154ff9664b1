// SPDX-License-Identifier: MIT
// Path MTU through a nat service: what does not fit the next link is told to its sender, in terms
// that the sender knows, and later datagrams are made to fit.
//
//   client ── 1500 ── lb ── another MTU ── b1
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

constexpr int kPort = 9000;
constexpr int kClientMtu = 1500;

class MtuTest : public LabTest, public testing::WithParamInterface<Family> {};

INSTANTIATE_TEST_SUITE_P(Families, MtuTest, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& it) { return it.param == Family::kV4 ? "V4" : "V6"; });

int header_bytes(Family family) { return (family == Family::kV4 ? 20 : 40) + 8; }

// An echo server that answers with as many bytes as the datagram's text says; it and the client
// below let nothing be fragmented, and send again after a "too big" (EMSGSIZE), as QUIC would.
const char* const kCommon = R"(
import errno, socket, sys, time
sock = socket.socket(socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET, socket.SOCK_DGRAM)
# IPV6_MTU_DISCOVER or IP_MTU_DISCOVER: IP_PMTUDISC_DO
option = (socket.IPPROTO_IPV6, 23) if sys.argv[1] == "6" else (socket.IPPROTO_IP, 10)
sock.setsockopt(*option, 2)
def send(bytes_, to):
    try:
        sock.sendto(bytes_, to)
        return True
    except OSError as error:
        return error.errno != errno.EMSGSIZE
)";

const char* const kServer = R"(
sock.bind((sys.argv[2], int(sys.argv[3])))
while True:
    asked, client = sock.recvfrom(65536)
    wanted = int(asked.split()[0])
    send(b"x" * wanted, client) or send(b"too big", client)
)";

// Prints what became of `datagrams`, "SENT WANTED" each: "answered N", "too big" or "silence".
const char* const kClient = R"(
sock.settimeout(0.5)
for sent, wanted in (map(int, pair.split(",")) for pair in sys.argv[4:]):
    text = str(wanted).encode()
    if not send(text + b" " * (sent - len(text)), (sys.argv[2], int(sys.argv[3]))):
        print("too big")
        continue
    try:
        print("answered", len(sock.recv(65536)))
    except TimeoutError:
        print("silence")
    except OSError as error:
        print("too big" if error.errno == errno.EMSGSIZE else error)
)";

class Echo {
 public:
  Echo(Family family, int mtu)
      : family_(family), lab_({.backends = 1, .families = {family}, .mtu = mtu}) {
    start("b1", lab_.backend_address(1, family), kServer);
    lab_.await_listener("b1", kPort, "udp");
    lab_.start_agent({.services = {{.name = "echo", .port = kPort, .backend_port = kPort,
                                    .family = family, .lines = "protocol = \"udp\"\n"}}});
  }
  // "SENT,WANTED" bytes of UDP payload.
  std::string ask(const std::vector<std::string>& datagrams) {
    std::vector<std::string> argv = python(lab_.vip(family_), kClient);
    argv.insert(argv.end(), datagrams.begin(), datagrams.end());
    return lab_.run_on("client", argv).out;
  }

 private:
  std::vector<std::string> python(const std::string& address, const char* program) const {
    return {"python3", "-ISc", std::string(kCommon) + program,
            family_ == Family::kV4 ? "4" : "6", address, std::to_string(kPort)};
  }
  void start(const std::string& node, const std::string& address, const char* program) {
    lab_.start(node, python(address, program));
  }

  Family family_;
  Lab lab_;
};

TEST_P(MtuTest, AClientLearnsTheMtuOfTheBackendsLink) {
  const int mtu = 1400;
  const int most = mtu - header_bytes(GetParam());
  Echo echo(GetParam(), mtu);
  const std::string fits = std::to_string(most) + ",100";
  const std::string does_not = std::to_string(most + 1) + ",100";
  // The first that is too long is lost, and its error makes the kernel refuse the next one.
  EXPECT_EQ(echo.ask({fits, does_not, does_not, fits}),
            "answered 100\nsilence\ntoo big\nanswered 100\n");
}

TEST_P(MtuTest, ABackendLearnsTheMtuOfTheClientsLink) {
  const int most = kClientMtu - header_bytes(GetParam());
  Echo echo(GetParam(), 1600);
  const std::string fits = "10," + std::to_string(most);
  const std::string does_not = "10," + std::to_string(most + 1);
  // The backend's first answer that is too long is lost; then it knows, and says so.
  EXPECT_EQ(echo.ask({fits, does_not, does_not, fits}),
            "answered " + std::to_string(most) + "\nsilence\nanswered 7\nanswered " +
                std::to_string(most) + "\n");
}

}  // namespace
}  // namespace petrel::test
