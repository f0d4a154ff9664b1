// SPDX-License-Identifier: MIT
// docs/maps.md names each map that the programs have, and no other.
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <string>

#include "balancer.skel.h"
#include "sensor.skel.h"

namespace {

void add_names(const bpf_object* object, std::set<std::string>& names) {
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const std::string name = bpf_map__name(map);
    if (name.find('.') == std::string::npos) names.insert(name);  // .rodata and the like
  }
}

std::set<std::string> documented_names() {
  std::set<std::string> names;
  std::ifstream page(PETREL_MAP_REFERENCE);
  const std::regex row(R"(^\| `(\w+)` \| [A-Z_]+)");
  std::smatch match;
  for (std::string line; std::getline(page, line);) {
    if (std::regex_search(line, match, row)) names.insert(match[1]);
  }
  return names;
}

TEST(MapReference, NamesEachMapOfThePrograms) {
  std::set<std::string> names;
  balancer_bpf* balancer = balancer_bpf__open();  // opening needs no rights
  sensor_bpf* sensor = sensor_bpf__open();
  ASSERT_NE(balancer, nullptr);
  ASSERT_NE(sensor, nullptr);
  add_names(balancer->obj, names);
  add_names(sensor->obj, names);
  balancer_bpf__destroy(balancer);
  sensor_bpf__destroy(sensor);
  EXPECT_EQ(names, documented_names());
}

TEST(MapReference, KeepsNamesThatTheKernelDoesNotCut) {
  for (const std::string& name : documented_names()) EXPECT_LE(name.size(), 15u) << name;
}

}  // namespace
