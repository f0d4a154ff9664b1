// SPDX-License-Identifier: MIT
// What the simulator's tests share: the shipped model, and one run by names.
#pragma once

#include <gtest/gtest.h>

#include <map>

#include "score/model.hpp"
#include "simulate/simulation.hpp"

namespace petrel::simulate {

inline const Model& shipped_model() {
  static const Model model = *load_model(PETREL_SHIPPED_MODEL);
  return model;
}

inline Scenario scenario_named(std::string_view name) {
  const Scenario* found = find_scenario(name);
  EXPECT_NE(found, nullptr) << name;
  return *found;
}

inline PolicySettings test_settings() {
  PolicySettings settings;
  settings.model = &shipped_model();
  return settings;
}

inline Outcome run(const Scenario& scenario, std::string_view policy, std::uint64_t seed = 1) {
  return simulate(scenario, make_policy_maker(policy, scenario, test_settings()), {seed, {}});
}

inline Outcome run(std::string_view scenario, std::string_view policy, std::uint64_t seed = 1) {
  return run(scenario_named(scenario), policy, seed);
}

}  // namespace petrel::simulate
