// SPDX-License-Identifier: MIT
// Stable ids: a backend is the same one after a restart or reload if its flows can go on.
#include "config/ids.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <string>

namespace petrel {
namespace {

using Ids = std::vector<std::uint32_t>;

BackendConfig backend(std::uint8_t host, std::uint16_t port = 8080) {
  BackendConfig config;
  config.name = "b" + std::to_string(host);
  config.address = v4_address(10, 2, 0, host);
  config.port = port;
  return config;
}

ServiceConfig service(std::uint8_t host, std::vector<BackendConfig> backends) {
  ServiceConfig config;
  config.name = "s" + std::to_string(host);
  config.address = v4_address(10, 1, 0, host);
  config.port = config.last_port = 80;
  config.backends = std::move(backends);
  return config;
}

Config config_of(std::vector<ServiceConfig> services) {
  Config config;
  config.services = std::move(services);
  return config;
}

// What the maps hold once a configuration is in force.
KnownIds in_force(const Config& config) {
  KnownIds known;
  for (const ServiceConfig& each : config.services) {
    known.services.push_back({each.id, each.address, each.port, each.protocol});
    for (const BackendConfig& its : each.backends) {
      known.backends.push_back({its.id, each.id, its.address, its.port, false});
    }
  }
  return known;
}

// The first run: services 1 and 2 with backends 1, 2, 3 and 4, 5.
Config first_run() {
  Config config = config_of(
      {service(1, {backend(1), backend(2), backend(3)}), service(2, {backend(11), backend(12)})});
  EXPECT_TRUE(assign_ids(config, {}));
  return config;
}

Ids service_ids(const Config& config) {
  Ids ids;
  for (const ServiceConfig& each : config.services) ids.push_back(each.id);
  return ids;
}

Ids backend_ids(const Config& config) {
  Ids ids;
  for (const ServiceConfig& each : config.services) {
    for (const BackendConfig& its : each.backends) ids.push_back(its.id);
  }
  return ids;
}

Ids ids_of(const std::vector<KnownBackend>& backends) {
  Ids ids;
  for (const KnownBackend& its : backends) ids.push_back(its.id);
  return ids;
}

void expect_ids(Config config, const KnownIds& known, const Ids& services, const Ids& backends) {
  const Result<void> assigned = assign_ids(config, known);
  ASSERT_TRUE(assigned) << assigned.error().message();
  EXPECT_EQ(service_ids(config), services);
  EXPECT_EQ(backend_ids(config), backends);
}

TEST(Ids, TheFirstRunCountsInTheFilesOrder) {
  expect_ids(first_run(), {}, {1, 2}, {1, 2, 3, 4, 5});
}

TEST(Ids, ARestartChangesNothing) {
  const Config config = first_run();
  expect_ids(config, in_force(config), {1, 2}, {1, 2, 3, 4, 5});
}

TEST(Ids, ReorderedLinesKeepTheirs) {
  expect_ids(config_of({service(2, {backend(12), backend(11)}),
                        service(1, {backend(3), backend(1), backend(2)})}),
             in_force(first_run()), {2, 1}, {5, 4, 3, 1, 2});
}

TEST(Ids, RenamedOnesKeepTheirs) {
  Config renamed = first_run();
  renamed.services[0].name = "other";
  renamed.services[0].backends[1].name = "other";
  expect_ids(renamed, in_force(first_run()), {1, 2}, {1, 2, 3, 4, 5});
}

TEST(Ids, WhatElseAServiceSaysDoesNotMatter) {
  Config changed = first_run();
  changed.services[0].last_port = 90;
  changed.services[0].affinity = Affinity::kClient;
  changed.services[0].backends[0].weight = 1;
  changed.services[0].backends[0].drain = true;
  expect_ids(changed, in_force(first_run()), {1, 2}, {1, 2, 3, 4, 5});
}

TEST(Ids, AddedOnesGetWhatIsFree) {
  expect_ids(config_of({service(3, {backend(21)}),
                        service(1, {backend(9), backend(1), backend(2), backend(3)}),
                        service(2, {backend(11), backend(12)})}),
             in_force(first_run()), {3, 1, 2}, {6, 7, 1, 2, 3, 4, 5});
}

TEST(Ids, ARemovedOnesIsNotGivenAwayWhileItIsKnown) {
  Config config =
      config_of({service(1, {backend(1), backend(3), backend(4)}), service(3, {backend(21)})});
  expect_ids(config, in_force(first_run()), {1, 3}, {1, 3, 6, 7});

  KnownIds later = in_force(first_run());
  std::erase_if(later.services, [](const KnownService& each) { return each.id == 2; });
  std::erase_if(later.backends,
                [](const KnownBackend& each) { return each.id == 2 || each.service_id == 2; });
  expect_ids(config, later, {1, 2}, {1, 3, 2, 4});
}

TEST(Ids, ALeavingOnesIsNotGivenAway) {
  KnownIds known = in_force(first_run());
  known.backends[1].leaving = true;
  expect_ids(config_of({service(1, {backend(1), backend(4), backend(3)}),
                        service(2, {backend(11), backend(12)})}),
             known, {1, 2}, {1, 6, 3, 4, 5});
}

TEST(Ids, OneThatComesBackWhileItIsLeavingGetsItsOwn) {
  KnownIds known = in_force(first_run());
  known.backends[1].leaving = true;
  expect_ids(first_run(), known, {1, 2}, {1, 2, 3, 4, 5});
}

TEST(Ids, OfTwoOfAPlaceTheOneThatTakesFlowsCounts) {
  KnownIds known = in_force(first_run());
  known.backends[0].leaving = true;
  known.backends.push_back(known.backends[0]);
  known.backends.back().id = 9;
  known.backends.back().leaving = false;
  expect_ids(first_run(), known, {1, 2}, {9, 2, 3, 4, 5});
  std::reverse(known.backends.begin(), known.backends.end());
  expect_ids(first_run(), known, {1, 2}, {9, 2, 3, 4, 5});
}

TEST(Ids, AnotherPlaceIsAnotherBackend) {
  Config config = first_run();
  config.services[0].backends[0].port = 8081;
  config.services[0].backends[1].address = v4_address(10, 2, 0, 99);
  expect_ids(config, in_force(first_run()), {1, 2}, {6, 7, 3, 4, 5});
}

TEST(Ids, AnotherEndpointIsAnotherServiceAndSoAreItsBackends) {
  Config config = first_run();
  config.services[0].protocol = IPPROTO_UDP;
  expect_ids(config, in_force(first_run()), {3, 2}, {6, 7, 8, 4, 5});
  config = first_run();
  config.services[0].port = 81;
  expect_ids(config, in_force(first_run()), {3, 2}, {6, 7, 8, 4, 5});
  config = first_run();
  config.services[0].address = v4_address(10, 1, 0, 77);
  expect_ids(config, in_force(first_run()), {3, 2}, {6, 7, 8, 4, 5});
}

TEST(Ids, ABackendThatMovesToAnotherServiceIsANewOne) {
  expect_ids(config_of({service(1, {backend(1), backend(2)}),
                        service(2, {backend(11), backend(12), backend(3)})}),
             in_force(first_run()), {1, 2}, {1, 2, 4, 5, 6});
}

TEST(Ids, AServiceIdThatALeavingBackendNamesIsNotGivenAway) {
  KnownIds known = in_force(first_run());
  known.services.erase(known.services.begin());
  expect_ids(config_of({service(9, {backend(1)})}), known, {3}, {6});
}

TEST(Ids, RemovedOnesAreThoseThatTheConfigurationHasNot) {
  KnownIds known = in_force(first_run());
  known.backends[2].leaving = true;
  Config config = config_of({service(1, {backend(2), backend(4)})});
  ASSERT_TRUE(assign_ids(config, known));
  const std::vector<KnownBackend> removed = removed_backends(config, known);
  EXPECT_EQ(ids_of(removed), (Ids{1, 3, 4, 5}));
  EXPECT_FALSE(removed[0].leaving);
  EXPECT_TRUE(removed[1].leaving);
  EXPECT_EQ(removed[3].service_id, 2U);

  Config same = first_run();
  ASSERT_TRUE(assign_ids(same, known));
  EXPECT_TRUE(removed_backends(same, known).empty());
  EXPECT_TRUE(removed_backends(same, {}).empty());
}

Config of_backends(std::uint32_t count, std::uint16_t first_port) {
  ServiceConfig one = service(1, {});
  for (std::uint32_t i = 0; i < count; ++i) {
    one.backends.push_back(backend(1, static_cast<std::uint16_t>(first_port + i)));
  }
  return config_of({one});
}

TEST(Ids, EveryBackendIdCanBeUsedAndNoMore) {
  Config all = of_backends(MAX_BACKENDS - 1, 1);
  ASSERT_TRUE(assign_ids(all, {}));
  EXPECT_EQ(all.services[0].backends.back().id, MAX_BACKENDS - 1U);
  const KnownIds known = in_force(all);
  EXPECT_TRUE(assign_ids(all, known)) << "none is new";

  Config other = of_backends(MAX_BACKENDS - 1, 3);  // the first two leave, two are new
  other.services[0].id = 77;
  const Result<void> assigned = assign_ids(other, known);
  ASSERT_FALSE(assigned);
  EXPECT_EQ(assigned.error().kind(), ExitCode::kConflict);
  EXPECT_EQ(assigned.error().message(),
            "too few backend ids: 2 needed, 0 free, 2 kept for removed ones; "
            "try again once their flows have ended, or add fewer at once");
  EXPECT_EQ(other.services[0].id, 77U) << "the configuration is as it was";
  EXPECT_EQ(other.services[0].backends[0].id, 0U);

  KnownIds ended = known;
  ended.backends.erase(ended.backends.begin(), ended.backends.begin() + 2);
  ASSERT_TRUE(assign_ids(other, ended));
  EXPECT_EQ(other.services[0].backends.back().id, 2U);
}

TEST(Ids, EveryServiceIdCanBeUsedAndNoMore) {
  Config all;
  for (std::uint32_t i = 0; i < MAX_SERVICES - 1; ++i) {
    all.services.push_back(service(1, {}));
    all.services.back().port = all.services.back().last_port = static_cast<std::uint16_t>(i + 1);
  }
  ASSERT_TRUE(assign_ids(all, {}));
  EXPECT_EQ(all.services.back().id, MAX_SERVICES - 1U);
  const KnownIds known = in_force(all);
  all.services[3].protocol = IPPROTO_UDP;
  const Result<void> assigned = assign_ids(all, known);
  ASSERT_FALSE(assigned);
  EXPECT_EQ(assigned.error().kind(), ExitCode::kConflict);
  EXPECT_TRUE(
      assigned.error().message().starts_with("too few service ids: 1 needed, 0 free, 1 kept"))
      << assigned.error().message();
}

TEST(Ids, IdsThatNoMapHasAreNotKept) {
  KnownIds known = in_force(first_run());
  known.services[0].id = MAX_SERVICES;
  known.backends[3].id = MAX_BACKENDS;
  known.backends[4].id = 0;
  expect_ids(config_of({service(2, {backend(11), backend(12)})}), known, {2}, {4, 5});
}

}  // namespace
}  // namespace petrel
