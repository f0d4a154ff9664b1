// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace petrel {

// The name of a network interface's driver ("veth", "ixgbe"), "" where it gives none.
std::string driver_of(const std::string& interface);

}  // namespace petrel
