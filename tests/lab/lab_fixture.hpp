// SPDX-License-Identifier: MIT
// LabTest: skips, saying what is missing, where this host can raise no lab. Each test raises its
// own, so that two runs of the tests do not meet.
#pragma once

#include <gtest/gtest.h>

#include "tests/lab/lab.hpp"

namespace petrel::test {

class LabTest : public testing::Test {
 protected:
  void SetUp() override;
};

}  // namespace petrel::test
