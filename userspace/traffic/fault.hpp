// SPDX-License-Identifier: MIT
// Fault: in which way a backend misbehaves now, and how that travels over its control socket.
#pragma once

#include <boost/json/object.hpp>
#include <string_view>

#include "base/error.hpp"

namespace petrel::traffic {

enum class FaultKind {
  kNone,
  kHang,       // accepts and never answers; requests are held until their clients leave
  kRefuse,     // no listener: the kernel answers SYNs with RST; open connections go on
  kReset,      // RST right after accept, and to open connections on their next request
  kBlackhole,  // all packets vanish, SYNs too; answers are held back until it ends
  kSlow,       // service times are `factor` times as long
  kErrors,     // a share `rate` of the requests is answered `status`
};

struct Fault {
  FaultKind kind = FaultKind::kNone;
  double factor = 10;     // slow: 0.001 to 1e6
  double rate = 1;        // errors: 0 to 1
  unsigned status = 503;  // errors: 400 to 599
  bool quick = false;     // errors: answered at once instead of after the service time
};

Result<FaultKind> parse_fault_kind(std::string_view name);
std::string_view to_text(FaultKind kind);

// {"kind": "slow", "factor": 10}; only the kind's own parameters are written, and missing ones
// have their defaults. Wrong ones are named in the error.
boost::json::object to_json(const Fault& fault);
Result<Fault> parse_fault(const boost::json::object& object);

}  // namespace petrel::traffic
