// SPDX-License-Identifier: MIT
// docs/maps.md names each map that the programs have, and no other; those for old kernels have the
// same ones, and the same constants.
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

#include "balancer.skel.h"
#include "maps/programs.hpp"
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
  balancer_bpf* balancer = petrel::open_balancer(petrel::ProgramSet::kCurrent);  // needs no rights
  sensor_bpf* sensor = petrel::open_sensor(petrel::ProgramSet::kCurrent);
  ASSERT_NE(balancer, nullptr);
  ASSERT_NE(sensor, nullptr);
  add_names(balancer->obj, names);
  add_names(sensor->obj, names);
  balancer_bpf__destroy(balancer);
  sensor_bpf__destroy(sensor);
  EXPECT_EQ(names, documented_names());
}

struct Place {
  unsigned offset = 0;
  unsigned bytes = 0;
  bool operator==(const Place&) const = default;
};

// Constants that are set before load, and where they lie.
std::map<std::string, Place> constants(const bpf_object* object) {
  const btf* types = bpf_object__btf(object);
  std::map<std::string, Place> found;
  const int id = btf__find_by_name_kind(types, ".rodata", BTF_KIND_DATASEC);
  if (id <= 0) return found;
  const btf_type* section = btf__type_by_id(types, id);
  const btf_var_secinfo* place = btf_var_secinfos(section);
  for (unsigned i = 0; i < btf_vlen(section); ++i) {
    const btf_type* variable = btf__type_by_id(types, place[i].type);
    found[btf__name_by_offset(types, variable->name_off)] = {place[i].offset, place[i].size};
  }
  return found;
}

struct Shape {
  int type = 0;
  unsigned key_bytes = 0, value_bytes = 0, entries = 0;
  bool operator==(const Shape&) const = default;
};

std::map<std::string, Shape> shapes(const bpf_object* object) {
  std::map<std::string, Shape> found;
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    found[bpf_map__name(map)] = {bpf_map__type(map), bpf_map__key_size(map),
                                 bpf_map__value_size(map), bpf_map__max_entries(map)};
  }
  return found;
}

// One skeleton stands for both: what it points to must be there, and be the same.
void expect_alike(const bpf_object* current, const bpf_object* old) {
  EXPECT_FALSE(constants(current).empty());
  EXPECT_TRUE(constants(current) == constants(old));
  const auto others = shapes(old);
  for (const auto& [name, shape] : shapes(current)) {
    ASSERT_TRUE(others.contains(name)) << name;
    // Tables of constants: each has those that it reads.
    EXPECT_TRUE(name == ".rodata.tables" || others.at(name) == shape) << name;
  }
}

TEST(ProgramsOfOldKernels, HaveTheSameMapsAndConstants) {
  balancer_bpf* current = petrel::open_balancer(petrel::ProgramSet::kCurrent);
  balancer_bpf* old = petrel::open_balancer(petrel::ProgramSet::kOld);
  ASSERT_NE(current, nullptr);
  ASSERT_NE(old, nullptr);
  expect_alike(current->obj, old->obj);
  balancer_bpf__destroy(current);
  balancer_bpf__destroy(old);
  sensor_bpf* current_sensor = petrel::open_sensor(petrel::ProgramSet::kCurrent);
  sensor_bpf* old_sensor = petrel::open_sensor(petrel::ProgramSet::kOld);
  ASSERT_NE(current_sensor, nullptr);
  ASSERT_NE(old_sensor, nullptr);
  expect_alike(current_sensor->obj, old_sensor->obj);
  sensor_bpf__destroy(current_sensor);
  sensor_bpf__destroy(old_sensor);
}

TEST(MapReference, KeepsNamesThatTheKernelDoesNotCut) {
  for (const std::string& name : documented_names()) EXPECT_LE(name.size(), 15u) << name;
}

}  // namespace
