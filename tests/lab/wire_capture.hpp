// SPDX-License-Identifier: MIT
// WireCapture: what the client and the backends of a lab saw on their wires. The lab must show
// single packets.
#pragma once

#include <string>
#include <vector>

#include "tests/lab/lab.hpp"

namespace petrel::test {

class WireCapture {
 public:
  // Captures from its return on, at each node.
  explicit WireCapture(Lab& lab);
  // Ends the captures: what follows is about what they hold.
  void end();

  // Packets with a bad checksum, packets that tshark cannot make sense of, and RSTs: a line each,
  // with their node; "" is good.
  std::string faults() const;
  // Packets of a node ("client", "b1" ...) that a filter (pcap-filter(7)) holds for, a line each.
  std::string packets(const std::string& node, const std::string& filter) const;
  // How many of all backends' packets it holds for.
  int count_at_backends(const std::string& filter) const;

 private:
  struct End {
    std::string node;
    std::string file;
    Process* tcpdump;
  };
  std::vector<End> ends_;  // the client's first
};

}  // namespace petrel::test
