// SPDX-License-Identifier: MIT
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {

void LabTest::SetUp() {
  if (const std::string missing = Lab::missing(); !missing.empty()) {
    GTEST_SKIP() << "no lab: " << missing;
  }
}

}  // namespace petrel::test
