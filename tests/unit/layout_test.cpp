// SPDX-License-Identifier: MIT
// What a configuration makes of maps that are in force: ids, rings, sizes, and who leaves.
#include "maps/layout.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include "config/address.hpp"
#include "ring/ring.hpp"

namespace petrel {
namespace {

BackendConfig backend(const char* address, std::uint16_t port = 80) {
  BackendConfig backend;
  backend.name = address;
  backend.address = parse_address(address).value();
  backend.port = port;
  return backend;
}

ServiceConfig service(const char* address, std::uint16_t port,
                      const std::vector<const char*>& backends) {
  ServiceConfig service;
  service.name = address;
  service.address = parse_address(address).value();
  service.port = service.last_port = port;
  for (const char* each : backends) service.backends.push_back(backend(each));
  return service;
}

Config config(std::vector<ServiceConfig> services) {
  Config config;
  config.services = std::move(services);
  return config;
}

// The maps as an agent leaves them that has put the layout in force.
PinnedState pinned(const Layout& layout) {
  PinnedState state;
  for (const ServiceConfig& service : layout.config.services) {
    const RingPlace& place = layout.places.at(service.id);
    state.services.push_back({{service.address, htons(service.port), service.protocol, 0},
                              {service.id, 0, place.offset, place.neutral, place.slots, 0},
                              service.last_port});
    for (const BackendConfig& backend : service.backends) {
      PinnedBackend entry;
      entry.id = backend.id;
      entry.value.address = backend.address;
      entry.value.port_be = htons(backend.port);
      entry.value.service_id = service.id;
      entry.weight.base_weight = backend.weight;
      state.backends.push_back(entry);
    }
  }
  return state;
}

bool overlap(const RingPlace& left, const RingPlace& right) {
  return left.offset < right.neutral + right.slots && right.offset < left.neutral + left.slots;
}

TEST(PlanLayout, AFreshOnePutsRingsSideBySide) {
  const auto layout = plan_layout(
      config({service("10.0.0.1", 80, {"10.1.0.1", "10.1.0.2"}), service("10.0.0.2", 80, {"10.1.0.3"})}),
      {});
  ASSERT_TRUE(layout);
  EXPECT_EQ(layout->sizes.backends, 4u);
  EXPECT_EQ(layout->sizes.services, 3u);
  EXPECT_EQ(layout->sizes.ring, 2 * (ring_slots(2) + ring_slots(1)));
  EXPECT_FALSE(overlap(layout->places.at(1), layout->places.at(2)));
  EXPECT_TRUE(layout->leaving.empty());
}

TEST(PlanLayout, ReorderedLinesChangeNothing) {
  const auto first = plan_layout(
      config({service("10.0.0.1", 80, {"10.1.0.1", "10.1.0.2"}), service("10.0.0.2", 80, {"10.1.0.3"})}),
      {});
  const auto second = plan_layout(
      config({service("10.0.0.2", 80, {"10.1.0.3"}), service("10.0.0.1", 80, {"10.1.0.2", "10.1.0.1"})}),
      pinned(*first));
  ASSERT_TRUE(second);
  EXPECT_EQ(second->config.services[1].id, first->config.services[0].id);
  EXPECT_EQ(second->config.services[1].backends[1].id, first->config.services[0].backends[0].id);
  EXPECT_EQ(second->places, first->places);
  EXPECT_TRUE(second->leaving.empty());
}

TEST(PlanLayout, ARingOfAnotherLengthGetsSpaceThatNothingUses) {
  const auto first = plan_layout(
      config({service("10.0.0.1", 80, {"10.1.0.1", "10.1.0.2"}), service("10.0.0.2", 80, {"10.1.0.9"})}),
      {});
  const auto second = plan_layout(
      config({service("10.0.0.1", 80, {"10.1.0.1", "10.1.0.2", "10.1.0.3"}),
              service("10.0.0.2", 80, {"10.1.0.9"})}),
      pinned(*first));
  ASSERT_TRUE(second);
  EXPECT_EQ(second->places.at(1).slots, ring_slots(3));
  EXPECT_EQ(second->places.at(2), first->places.at(2));
  EXPECT_FALSE(overlap(second->places.at(1), first->places.at(1)));
  EXPECT_FALSE(overlap(second->places.at(1), first->places.at(2)));
  EXPECT_GT(second->sizes.ring, first->sizes.ring);

  // Then the old space is free.
  const auto third = plan_layout(config({service("10.0.0.1", 80, {"10.1.0.1"}),
                                         service("10.0.0.2", 80, {"10.1.0.9"})}),
                                 pinned(*second));
  ASSERT_TRUE(third);
  EXPECT_EQ(third->places.at(1).offset, first->places.at(1).offset);
}

TEST(PlanLayout, ARemovedBackendLeavesAndKeepsItsId) {
  const auto first =
      plan_layout(config({service("10.0.0.1", 80, {"10.1.0.1", "10.1.0.2"})}), {});
  const auto second = plan_layout(
      config({service("10.0.0.1", 80, {"10.1.0.2", "10.1.0.3"})}), pinned(*first));
  ASSERT_TRUE(second);
  ASSERT_EQ(second->leaving.size(), 1u);
  EXPECT_EQ(second->leaving[0].config.id, 1u);
  EXPECT_FALSE(second->leaving[0].at_once);
  EXPECT_EQ(second->config.services[0].backends[1].id, 3u);
}

TEST(PlanLayout, ARemovedServiceKeepsItsRingUntilItsBackendsHaveLeft) {
  const auto first = plan_layout(
      config({service("10.0.0.1", 80, {"10.1.0.1"}), service("10.0.0.2", 80, {"10.1.0.2"})}), {});
  const auto second =
      plan_layout(config({service("10.0.0.2", 80, {"10.1.0.2"})}), pinned(*first));
  ASSERT_TRUE(second);
  ASSERT_EQ(second->leaving_services.size(), 1u);
  EXPECT_EQ(second->leaving_services[0].id, 1u);
  EXPECT_EQ(second->places.at(1), first->places.at(1));
  EXPECT_FALSE(second->leaving.at(0).at_once);
}

TEST(PlanLayout, WhatAnotherTakesOverLeavesAtOnce) {
  const auto first = plan_layout(
      config({service("10.0.0.1", 80, {"10.1.0.1"}), service("10.0.0.1", 81, {"10.1.0.2"})}), {});
  // A range over the removed service's port, and its backend's endpoint in another service.
  ServiceConfig range = service("10.0.0.1", 70, {"10.1.0.3"});
  range.last_port = 90;
  const auto second = plan_layout(config({range}), pinned(*first));
  ASSERT_TRUE(second);
  EXPECT_TRUE(second->leaving_services.empty());
  for (const LeavingBackend& leaving : second->leaving) EXPECT_TRUE(leaving.at_once);

  const auto third = plan_layout(
      config({service("10.0.0.1", 80, {"10.1.0.2"}), service("10.0.0.1", 81, {"10.1.0.1"})}),
      pinned(*first));
  ASSERT_TRUE(third);
  ASSERT_EQ(third->leaving.size(), 2u);
  EXPECT_TRUE(third->leaving[0].at_once);
  EXPECT_TRUE(third->leaving[1].at_once);
}

TEST(PlanLayout, MapsHaveHeadroom) {
  EXPECT_EQ(with_headroom(2), 16u);
  EXPECT_EQ(with_headroom(16), 16u);
  EXPECT_EQ(with_headroom(17), 32u);
}

}  // namespace
}  // namespace petrel
