// SPDX-License-Identifier: MIT
#include "config/service_rules.hpp"

#include <algorithm>

#include "config/address.hpp"

namespace petrel {
namespace {

constexpr const char* kOneDsrAddress = "an address that no other backend of the service has";

void add_at(const TableReader& reader, std::string_view key, std::string expected,
            std::string found) {
  reader.problems().add(reader.source().get(key)->source(), reader.field(key), std::move(expected),
                        std::move(found));
}

}  // namespace

void Unique::claim(const TableReader& reader, std::string_view key, const std::string& value) {
  const auto [first, fresh] = taken_.emplace(value, reader.field(key));
  if (!fresh) add_at(reader, key, expected_, value + ", which " + first->second + " has already");
}

EndpointRules::EndpointRules(ProblemList& problems)
    : problems_(problems), dsr_addresses_(kOneDsrAddress) {}

void EndpointRules::add_service(const TableReader& reader, const ServiceConfig& service) {
  dsr_addresses_ = Unique(kOneDsrAddress);
  std::vector<Vip>& vips = vips_[to_string(service.address)];
  const Ports ports{service.protocol, service.port, service.last_port};
  for (const Vip& other : vips) check_ports(reader, service.address, ports, other);
  vips.push_back({ports, reader.field("address"), reader.field("port")});
  if (ports.is_range()) check_ranges(reader, vips);
}

void EndpointRules::check_ports(const TableReader& reader, const bpf::address& address,
                                const Ports& ports, const Vip& other) {
  if (!ports.meets(other.ports)) return;
  const std::string text = endpoint_text(address, ports.first, ports.last);
  if (!ports.is_range() && !other.ports.is_range()) {
    add_at(reader, "address", "an address and port that no other service has",
           text + ", which " + other.address_field + " has already");
    return;
  }
  const std::string met = ", which meets " +
                          endpoint_text(address, other.ports.first, other.ports.last) + " of " +
                          other.port_field;
  if (ports.is_range() && other.ports.is_range()) {
    add_at(reader, "port", "ports that no other range of the address has", text + met);
  } else if (ports.first == other.ports.first) {
    // `services` keeps a range under its first port: there is no room for another service.
    add_at(reader, "port", "a first port that no other service of the address has", text + met);
  }
}

// `vip` has room for so many.
void EndpointRules::check_ranges(const TableReader& reader, const std::vector<Vip>& vips) {
  const auto ranges =
      std::count_if(vips.begin(), vips.end(), [](const Vip& vip) { return vip.ports.is_range(); });
  if (ranges != VIP_RANGES + 1) return;
  add_at(reader, "port",
         "at most " + std::to_string(VIP_RANGES) + " services of several ports at one address",
         "one more");
}

void EndpointRules::add_backend(const TableReader& reader, const BackendConfig& backend,
                                const ServiceConfig& service) {
  Ports ports{service.protocol, backend.port, backend.port};
  if (service.is_range()) ports = {service.protocol, service.port, service.last_port};
  placed_.push_back({backend.address, ports, service.forward, service.is_balanced(),
                     reader.field("address"),
                     reader.source().get("address")->source()});
  if (service.forward == Forward::kDsr) {
    dsr_addresses_.claim(reader, "address", to_string(backend.address));
    return;
  }
  Unique& endpoints =
      nat_endpoints_
          .try_emplace(service.protocol,
                       "an address and port that no other nat backend of the protocol has")
          .first->second;
  // A backend of a range answers from any port that has no backend of its own.
  endpoints.claim(reader, "address",
                  service.is_range() ? to_string(backend.address) + " at any port"
                                     : endpoint_text(backend.address, backend.port));
}

void EndpointRules::check_no_loop() const {
  for (const Placed& backend : placed_) {
    if (!backend.balanced) continue; // nothing is sent anywhere: a VIP of elsewhere may stand for its backends
    const auto vips = vips_.find(to_string(backend.address));
    if (vips == vips_.end()) continue;
    // An encapsulated packet shows no port by which to tell one service of an address from another.
    const bool any = backend.forward == Forward::kDsr;
    const auto vip = std::find_if(
        vips->second.begin(), vips->second.end(),
        [&](const Vip& candidate) { return any || candidate.ports.meets(backend.ports); });
    if (vip == vips->second.end()) continue;
    problems_.add(backend.where, backend.field,
                  any ? "an address that is no service's" : "an endpoint that is no service's",
                  (any ? to_string(backend.address)
                       : endpoint_text(backend.address, backend.ports.first, backend.ports.last)) +
                      ", which is " + vip->address_field);
  }
}

}  // namespace petrel
