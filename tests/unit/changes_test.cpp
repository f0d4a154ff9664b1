// SPDX-License-Identifier: MIT
// What a reload says that it changed.
#include "agent/changes.hpp"

#include <gtest/gtest.h>

namespace petrel {
namespace {

Config one_service() {
  Config config;
  ServiceConfig& web = config.services.emplace_back();
  web.id = 1;
  web.name = "web";
  web.port = web.last_port = 80;
  for (std::uint32_t id = 1; id <= 2; ++id) {
    BackendConfig& backend = web.backends.emplace_back();
    backend.id = id;
    backend.name = "b" + std::to_string(id);
    backend.address = v4_address(10, 0, 0, static_cast<std::uint8_t>(id));
    backend.port = 8080;
  }
  return config;
}

using Lines = std::vector<std::string>;

TEST(DescribeChanges, OrderIsNoChange) {
  Config after = one_service();
  std::swap(after.services[0].backends[0], after.services[0].backends[1]);
  EXPECT_EQ(describe_changes(one_service(), after), Lines{});
}

TEST(DescribeChanges, NamesFieldsAndValues) {
  Config after = one_service();
  after.services[0].mode = ServiceMode::kAct;
  after.services[0].backends[1].weight = 50;
  EXPECT_EQ(describe_changes(one_service(), after),
            (Lines{"service web: mode shadow -> act", "service web: backend b2: weight 100 -> 50"}));
}

TEST(DescribeChanges, SaysWhatBecomesOfARemovedBackend) {
  Config after = one_service();
  after.services[0].backends.pop_back();
  EXPECT_EQ(describe_changes(one_service(), after),
            Lines{"service web: backend b2 (10.0.0.2:8080) removed: it drains for 60 s, then its "
                  "flows are reset"});
  EXPECT_EQ(describe_changes(after, one_service()),
            Lines{"service web: backend b2 (10.0.0.2:8080) added"});
}

TEST(DescribeChanges, ServicesComeAndGo) {
  const Config none;
  EXPECT_EQ(describe_changes(none, one_service()),
            Lines{"service web ([::]:80) added with 2 backends"});
}

}  // namespace
}  // namespace petrel
