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

// Whether a zone may be called so; "" is none.
bool is_zone(std::string_view zone);
inline constexpr TextRule kZoneRule{
    "a name of at most 63 characters of A-Z a-z 0-9 _ . -, or \"\"", is_zone};

// All but `mode` (a default that the caller knows) and the backends.
ServiceSound read_service_fields(TableReader& reader, ServiceConfig& service);

// Both right, or nothing that could be compared with others. The backend's port is 0 where it is
// addressed at the port that the client asked for.
bool read_backend_fields(TableReader& reader, const ServiceConfig& service,
                         const ServiceSound& sound, BackendConfig& backend);

}  // namespace petrel
