// SPDX-License-Identifier: MIT
#include "tests/lab/wire_capture.hpp"

#include <algorithm>
#include <csignal>
#include <memory>
#include <stdexcept>

namespace petrel::test {
namespace {

// What an ICMP error quotes has been cut, which tshark does not allow for in TCP's checksum. A sum of 0
// is sent as 0xffff by the kernel (skb_checksum_help()): the same number, of one packet in 65,536.
constexpr const char* kFaults =
    "ip.checksum.status == 0 || (tcp.checksum.status == 0 && !tcp.checksum.ffff && !icmp && !icmpv6) || "
    "udp.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0 || "
    "tcp.flags.reset == 1 || _ws.malformed";

std::string result_of(Process& process) {
  if (process.wait(20s) != 0) throw std::runtime_error(process.name() + ": " + process.err());
  return process.out();
}

}  // namespace

WireCapture::WireCapture(Lab& lab) {
  std::vector<std::string> nodes = {"client"};
  for (int i = 1; i <= lab.backends(); ++i) nodes.push_back("b" + std::to_string(i));
  for (const std::string& node : nodes) {
    const std::string file = lab.path(node + ".pcap");
    ends_.push_back({node, file,
                     &lab.start(node, {"tcpdump", "-i", "eth0", "-w", file, "-U", "-s", "0",
                                       "--immediate-mode", "-Z", "root"})});
  }
  for (const End& end : ends_) {
    await("tcpdump captures on " + end.node,
          [&] { return end.tcpdump->err().find("listening on") != std::string::npos; });
  }
}

void WireCapture::end() {
  for (const End& end : ends_) end.tcpdump->send(SIGINT);
  for (const End& end : ends_) end.tcpdump->wait();
}

std::string WireCapture::faults() const {
  // tshark takes most of its time to start: all at once.
  std::vector<std::unique_ptr<Process>> readers;
  for (const End& end : ends_) {
    readers.push_back(std::make_unique<Process>(
        "tshark " + end.node,
        std::vector<std::string>{"tshark", "-n", "-r", end.file, "-o", "ip.check_checksum:TRUE",
                                 "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
                                 "-Y", kFaults}));
  }
  std::string found;
  for (std::size_t i = 0; i < ends_.size(); ++i) {
    const std::string lines = result_of(*readers[i]);
    if (!lines.empty()) found += ends_[i].node + ":\n" + lines;
  }
  return found;
}

std::string WireCapture::packets(const std::string& node, const std::string& filter) const {
  const auto end = std::find_if(ends_.begin(), ends_.end(),
                                [&](const End& each) { return each.node == node; });
  if (end == ends_.end()) throw std::runtime_error("no capture on " + node);
  Process reader("tcpdump " + node, {"tcpdump", "-n", "-r", end->file, filter});
  return result_of(reader);
}

int WireCapture::count_at_backends(const std::string& filter) const {
  long count = 0;
  for (auto end = ends_.begin() + 1; end != ends_.end(); ++end) {
    const std::string lines = packets(end->node, filter);
    count += std::count(lines.begin(), lines.end(), '\n');
  }
  return static_cast<int>(count);
}

}  // namespace petrel::test
