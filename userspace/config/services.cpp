// SPDX-License-Identifier: MIT
// [[service]] and [[service.backend]], and what must hold between them.
#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "config/address.hpp"
#include "config/sections.hpp"

namespace petrel {
namespace {

constexpr std::size_t kLongestServiceName = 63;
constexpr std::size_t kLongestBackendName = 15;  // struct weight.backend with its final 0
// Id 0 means "unset" in every map.
constexpr std::size_t kMostServices = MAX_SERVICES - 1;
constexpr std::size_t kMostBackends = MAX_BACKENDS - 1;

bool is_name(std::string_view name, std::size_t longest) {
  return !name.empty() && name.size() <= longest &&
         std::all_of(name.begin(), name.end(), [](unsigned char character) {
           return std::isalnum(character) != 0 || character == '_' || character == '.' ||
                  character == '-';
         });
}

constexpr TextRule kServiceName{
    "a name of 1 to 63 characters of A-Z a-z 0-9 _ . -",
    [](std::string_view name) { return is_name(name, kLongestServiceName); }};
constexpr TextRule kBackendName{
    "a name of 1 to 15 characters of A-Z a-z 0-9 _ . -",
    [](std::string_view name) { return is_name(name, kLongestBackendName); }};
constexpr TextRule kZone{
    "a name of at most 63 characters of A-Z a-z 0-9 _ . -, or \"\"",
    [](std::string_view zone) { return zone.empty() || is_name(zone, kLongestServiceName); }};
constexpr TextRule kAddress{"the IPv4 or IPv6 address of one host", [](std::string_view text) {
                              const Result<bpf::address> address = parse_address(text);
                              return address.has_value() && is_one_host(*address);
                            }};

// Values that may occur only once, each with the field that has it.
class Unique {
 public:
  explicit Unique(const char* expected) : expected_(expected) {}

  void claim(const TableReader& reader, std::string_view key, const std::string& value) {
    const auto [first, fresh] = taken_.emplace(value, reader.field(key));
    if (fresh) return;
    reader.problems().add(reader.source().get(key)->source(), reader.field(key), expected_,
                          value + ", which " + first->second + " has already");
  }

 private:
  const char* expected_;
  std::map<std::string, std::string> taken_;
};

// Both right, or nothing that could be compared with others.
bool read_endpoint(TableReader& reader, bpf::address& address, std::uint16_t& port) {
  std::string text;
  const bool has_address = reader.text("address", text, kAddress, Presence::kRequired);
  if (has_address) address = *parse_address(text);
  const bool has_port = reader.whole("port", 1, 65535, port, Presence::kRequired);
  return has_address && has_port;
}

class ServicesReader {
 public:
  ServicesReader(ProblemList& problems, ServiceMode default_mode)
      : problems_(problems), default_mode_(default_mode) {}

  std::vector<ServiceConfig> read(const std::vector<const toml::table*>& tables) {
    std::vector<ServiceConfig> services;
    for (std::size_t i = 0; i < tables.size(); ++i) {
      if (tables[i] == nullptr) continue;
      TableReader reader(*tables[i], "service[" + std::to_string(i) + "]", problems_);
      if (i == kMostServices) {
        problems_.add_node(*tables[i], "service",
                           "at most " + std::to_string(kMostServices) + " services");
      }
      services.push_back(read_service(reader));
      services.back().id = static_cast<std::uint32_t>(services.size());
    }
    // Only now are all service addresses known.
    for (const Placed& backend : placed_) check_no_loop(backend);
    return services;
  }

 private:
  struct Placed {
    std::string endpoint;
    std::string field;
    toml::source_region where;
  };

  ServiceConfig read_service(TableReader& reader) {
    ServiceConfig service;
    service.mode = default_mode_;
    if (reader.text("name", service.name, kServiceName, Presence::kRequired)) {
      service_names_.claim(reader, "name", service.name);
    }
    if (read_endpoint(reader, service.address, service.port)) {
      const std::string endpoint = endpoint_text(service.address, service.port);
      service_endpoints_.claim(reader, "address", endpoint);
      vips_.emplace(endpoint, reader.field("address"));
    }
    reader.choice<std::uint8_t>("protocol", {{"tcp", IPPROTO_TCP}}, service.protocol);
    read_mode(reader, service.mode);
    reader.boolean("two_choices", service.two_choices);
    reader.boolean("steer_retries", service.steer_retries);
    const std::vector<const toml::table*> tables = reader.tables("backend");
    reader.report_unknown();

    Unique names("a name that no other backend of the service has");
    for (std::size_t i = 0; i < tables.size(); ++i) {
      if (tables[i] == nullptr) continue;
      const std::string path = reader.field("backend") + "[" + std::to_string(i) + "]";
      TableReader backend(*tables[i], path, problems_);
      service.backends.push_back(read_backend(backend, names, service));
    }
    return service;
  }

  BackendConfig read_backend(TableReader& reader, Unique& names, const ServiceConfig& service) {
    BackendConfig backend;
    backend.id = ++backends_;
    if (backends_ == kMostBackends + 1) {
      problems_.add_node(reader.source(), "service.backend",
                         "at most " + std::to_string(kMostBackends) + " backends in all");
    }
    if (reader.text("name", backend.name, kBackendName, Presence::kRequired)) {
      names.claim(reader, "name", backend.name);
    }
    if (read_endpoint(reader, backend.address, backend.port)) {
      const std::string endpoint = endpoint_text(backend.address, backend.port);
      backend_endpoints_.claim(reader, "address", endpoint);
      placed_.push_back(
          {endpoint, reader.field("address"), reader.source().get("address")->source()});
    }
    check_family(reader, backend, service);
    reader.whole("weight", 1, 65535, backend.weight);
    reader.text("zone", backend.zone, kZone);
    reader.report_unknown();
    return backend;
  }

  // The balancer rewrites addresses; it does not translate between families.
  void check_family(const TableReader& reader, const BackendConfig& backend,
                    const ServiceConfig& service) {
    // All zero: was wrong, and has been reported.
    const bool both = is_one_host(backend.address) && is_one_host(service.address);
    if (!both || is_v4(backend.address) == is_v4(service.address)) return;
    problems_.add_node(*reader.source().get("address"), reader.field("address"),
                       std::string(is_v4(service.address) ? "an IPv4" : "an IPv6") +
                           " address, as the service's is");
  }

  void check_no_loop(const Placed& backend) {
    const auto vip = vips_.find(backend.endpoint);
    if (vip == vips_.end()) return;
    problems_.add(backend.where, backend.field, "an endpoint that is no service's",
                  backend.endpoint + ", which is " + vip->second);
  }

  ProblemList& problems_;
  ServiceMode default_mode_;
  std::uint32_t backends_ = 0;
  Unique service_names_{"a name that no other service has"};
  Unique service_endpoints_{"an address and port that no other service has"};
  Unique backend_endpoints_{"an address and port that no other backend has"};
  std::map<std::string, std::string> vips_;  // endpoint to field
  std::vector<Placed> placed_;
};

}  // namespace

std::vector<ServiceConfig> read_services(TableReader& root, ServiceMode default_mode) {
  return ServicesReader(root.problems(), default_mode).read(root.tables("service"));
}

}  // namespace petrel
