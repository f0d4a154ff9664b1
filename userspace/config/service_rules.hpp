// SPDX-License-Identifier: MIT
// What must hold between services and between backends. Internal to config/.
//
// A rule is told of what has been read right, in the file's order; the later of two that cannot be
// together is the problem.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"
#include "config/reader.hpp"

namespace petrel {

// Values that may occur only once, each with the field that has it.
class Unique {
 public:
  explicit Unique(const char* expected) : expected_(expected) {}

  void claim(const TableReader& reader, std::string_view key, const std::string& value);

 private:
  const char* expected_;
  std::map<std::string, std::string> taken_;
};

class EndpointRules {
 public:
  explicit EndpointRules(ProblemList& problems);

  // Its address, ports and protocol are right.
  void add_service(const TableReader& reader, const ServiceConfig& service);

  // So are those of the service, its way of forwarding, and the backend's address and port. The
  // service was added last.
  void add_backend(const TableReader& reader, const BackendConfig& backend,
                   const ServiceConfig& service);

  // Once all services are known: a backend that is one of them sends packets round in a circle.
  void check_no_loop() const;

 private:
  struct Ports {
    std::uint8_t protocol;
    std::uint16_t first;
    std::uint16_t last;

    bool is_range() const { return first != last; }
    bool meets(const Ports& other) const {
      return protocol == other.protocol && first <= other.last && other.first <= last;
    }
  };
  struct Vip {
    Ports ports;
    std::string address_field;
    std::string port_field;
  };
  struct Placed {
    bpf::address address;
    Ports ports;  // at which it is addressed
    Forward forward;
    bool balanced;
    std::string field;
    toml::source_region where;
  };

  void check_ports(const TableReader& reader, const bpf::address& address, const Ports& ports,
                   const Vip& other);
  void check_ranges(const TableReader& reader, const std::vector<Vip>& vips);

  ProblemList& problems_;
  std::map<std::string, std::vector<Vip>> vips_;  // by the text of the address
  std::vector<Placed> placed_;
  // What comes back from a nat backend is told by its endpoint, so one service alone may have it.
  std::map<std::uint8_t, Unique> nat_endpoints_;  // by protocol
  Unique dsr_addresses_;                          // of the service that was added last
};

}  // namespace petrel
