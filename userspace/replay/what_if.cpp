// SPDX-License-Identifier: MIT
#include "replay/what_if.hpp"

#include <algorithm>

namespace petrel {
namespace {

template <class List>
auto* find_named(List& list, const std::string& name) {
  const auto found = std::ranges::find_if(list, [&](const auto& each) { return each.name == name; });
  return found == list.end() ? nullptr : &*found;
}

ServiceLoop decided_by(const Config& config, ServiceLoop& was) {
  const ServiceConfig* named = find_named(config.services, was.config().name);
  ServiceConfig service = was.config();
  if (named != nullptr) {
    service.mode = named->mode;
    service.modes = named->modes;
    for (BackendConfig& backend : service.backends) {
      const BackendConfig* of = find_named(named->backends, backend.name);
      if (of != nullptr) backend.weight = of->weight;
    }
  }
  ServiceLoop loop(service, config.control);
  for (const BackendLoop& backend : was.backends()) {
    if (backend.leaving) loop.add_leaving(backend.config);
  }
  // A reload takes these from the pinned maps.
  for (const BackendLoop& backend : was.backends()) {
    if (BackendLoop* same = loop.find(backend.config.id)) {
      loop.set_drain(*same, backend.drained_ns);
    }
  }
  loop.inherit(was);
  loop.hold(was.held());
  loop.settle();
  return loop;
}

}  // namespace

void apply(const WhatIf& what_if, Loop& loop) {
  if (what_if.model) {
    loop.set_model(*what_if.model);
    loop.hold(false);  // that was for the drift of the model that it had
  }
  if (!what_if.config) return;
  for (ServiceLoop& service : loop.services()) {
    if (!service.is_leaving()) service = decided_by(*what_if.config, service);
  }
}

Loop carried_on(Loop checkpoint, Loop& earlier) {
  for (ServiceLoop& service : checkpoint.services()) {
    if (ServiceLoop* had = earlier.find_service(service.config().id)) {
      service.inherit(*had);
      service.settle();
    }
  }
  checkpoint.features() = std::move(earlier.features());
  return checkpoint;
}

}  // namespace petrel
