// SPDX-License-Identifier: MIT
// docs/features.md has each feature, in the order and the unit that a capture has it in.
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "features/features.hpp"

namespace petrel {
namespace {

using Named = std::vector<std::pair<std::string, std::string>>;  // feature, unit

TEST(FeatureReference, HasEachFeatureInItsOrderAndUnit) {
  Named documented, known;
  std::ifstream page(PETREL_FEATURE_REFERENCE);
  const std::regex row(R"(^\| `(\w+)` \| (\w+) \|)");
  std::smatch match;
  for (std::string line; std::getline(page, line);) {
    if (std::regex_search(line, match, row)) documented.emplace_back(match[1], match[2]);
  }
  for (const FeatureInfo& info : kFeatures) known.emplace_back(info.name, info.unit);
  EXPECT_EQ(documented, known);
}

}  // namespace
}  // namespace petrel
