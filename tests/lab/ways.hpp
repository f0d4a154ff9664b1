// SPDX-License-Identifier: MIT
// The ways by which packets reach a backend, as the parameter of tests.
#pragma once

#include <ostream>
#include <string>

#include "tests/lab/lab.hpp"

namespace petrel::test {

struct Way {
  std::string name;
  Family family;
  bool dsr;
  bool over_v6;       // outer header of a family that is not the inner one's
  int outer_bytes;    // what the outer header takes of each packet
  std::string outer;  // what holds for an encapsulated packet (pcap-filter(7))

  int ip_bytes() const { return family == Family::kV4 ? 20 : 40; }
  LabOptions lab(int backends, int mtu = 1500) const {
    return {.backends = backends, .families = {family}, .dsr = dsr, .over_v6 = over_v6,
            .mtu = mtu, .single_packets = true};
  }
};

inline void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

inline const Way kNatV4{"NatV4", Family::kV4, false, false, 0, ""};
inline const Way kNatV6{"NatV6", Family::kV6, false, false, 0, ""};
inline const Way kIpip{"Ipip", Family::kV4, true, false, 20, "ip proto 4"};
inline const Way kIp6ip6{"Ip6ip6", Family::kV6, true, false, 40, "ip6 proto 41"};
inline const Way kIpv4InIpv6{"Ipv4InIpv6", Family::kV4, true, true, 40, "ip6 proto 4"};

}  // namespace petrel::test
