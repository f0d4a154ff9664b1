// SPDX-License-Identifier: MIT
// The fields of one [[service]] and of one [[service.backend]]. Internal to config/.
#pragma once

#include "config/config.hpp"
#include "config/reader.hpp"

namespace petrel {

// Which fields were right. A rule between fields is applied only where all of them were: else it
// would blame a field for what another one got wrong.
struct ServiceSound {
  bool address = false;
  bool ports = false;
  bool one_port = false;  // meant to have one port, be it right or wrong
  bool protocol = false;
  bool forward = false;

  bool endpoint() const { return address && ports && protocol; }
};

// All but `mode` (a default that the caller knows) and the backends.
ServiceSound read_service_fields(TableReader& reader, ServiceConfig& service);

// Both right, or nothing that could be compared with others. The backend's port is 0 where it is
// addressed at the port that the client asked for.
bool read_backend_fields(TableReader& reader, const ServiceConfig& service,
                         const ServiceSound& sound, BackendConfig& backend);

}  // namespace petrel
