// SPDX-License-Identifier: MIT
// All [[service]] and [[service.backend]]: their fields, their numbers, their rules.
#include "config/sections.hpp"
#include "config/service_fields.hpp"
#include "config/service_rules.hpp"

namespace petrel {
namespace {

// Id 0 means "unset" in every map.
constexpr std::size_t kMostServices = MAX_SERVICES - 1;
constexpr std::size_t kMostBackends = MAX_BACKENDS - 1;

class ServicesReader {
 public:
  ServicesReader(ProblemList& problems, ServiceMode default_mode)
      : problems_(problems), default_mode_(default_mode), endpoints_(problems) {}

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
    endpoints_.check_no_loop();
    return services;
  }

 private:
  // Nothing passes here that could be steered; what is inherited is taken for shadow.
  void forbid_act(const TableReader& reader, ServiceConfig& service) {
    if (service.mode != ServiceMode::kAct) return;
    service.mode = ServiceMode::kShadow;
    const toml::node* mode = reader.source().get("mode");
    if (mode == nullptr) return;
    problems_.add_node(*mode, reader.field("mode"),
                       "\"shadow\" or \"neutral\" where the placement is \"" +
                           std::string(to_string(service.placement)) + "\"");
  }

  ServiceConfig read_service(TableReader& reader) {
    ServiceConfig service;
    service.mode = default_mode_;
    read_mode(reader, service.mode);
    const ServiceSound sound = read_service_fields(reader, service);
    if (!service.is_balanced()) forbid_act(reader, service);
    if (const toml::table* modes = reader.table("modes", Presence::kOptional)) {
      read_modes(TableReader(*modes, reader.field("modes"), problems_), service);
    }
    if (!service.name.empty()) names_.claim(reader, "name", service.name);
    if (sound.endpoint()) endpoints_.add_service(reader, service);
    const std::vector<const toml::table*> tables = reader.tables("backend");
    reader.report_unknown();

    Unique names("a name that no other backend of the service has");
    for (std::size_t i = 0; i < tables.size(); ++i) {
      if (tables[i] == nullptr) continue;
      const std::string path = reader.field("backend") + "[" + std::to_string(i) + "]";
      TableReader backend(*tables[i], path, problems_);
      service.backends.push_back(read_backend(backend, service, sound, names));
    }
    return service;
  }

  BackendConfig read_backend(TableReader& reader, const ServiceConfig& service,
                             const ServiceSound& sound, Unique& names) {
    BackendConfig backend;
    backend.id = ++backends_;
    if (backends_ == kMostBackends + 1) {
      problems_.add_node(reader.source(), "service.backend",
                         "at most " + std::to_string(kMostBackends) + " backends in all");
    }
    const bool placed = read_backend_fields(reader, service, sound, backend);
    if (!backend.name.empty()) names.claim(reader, "name", backend.name);
    if (placed && sound.endpoint() && sound.forward) {
      endpoints_.add_backend(reader, backend, service);
    }
    reader.report_unknown();
    return backend;
  }

  ProblemList& problems_;
  ServiceMode default_mode_;
  std::uint32_t backends_ = 0;
  Unique names_{"a name that no other service has"};
  EndpointRules endpoints_;
};

}  // namespace

std::vector<ServiceConfig> read_services(TableReader& root, ServiceMode default_mode) {
  return ServicesReader(root.problems(), default_mode).read(root.tables("service"));
}

}  // namespace petrel
