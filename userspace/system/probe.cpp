// SPDX-License-Identifier: MIT
#include "system/probe.hpp"

#include <bpf/libbpf.h>

#include "system/probes.hpp"

namespace petrel {

Result<SystemFacts> gather(const Config& config) {
  libbpf_set_print(nullptr);  // probes fail where that is their answer
  auto tables = RouteTables::open();
  if (!tables) return tables.error().within("ask for interfaces and routes");
  SystemFacts facts;
  facts.host = probe_host(config.agent);
  for (const std::string& name : config.agent.interfaces) {
    facts.interfaces.push_back(probe_interface(config.agent, name, *tables));
  }
  for (const ServiceConfig& service : config.services) {
    ServiceFacts found;
    found.vip = tables->route(service.address);
    for (const BackendConfig& backend : service.backends) {
      found.backends.push_back(tables->route(backend.address));
    }
    facts.services.push_back(std::move(found));
  }
  return facts;
}

}  // namespace petrel
