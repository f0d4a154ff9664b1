// SPDX-License-Identifier: MIT
// The pinned table of connections, as a test looks at it.
#pragma once

#include <string>
#include <vector>

#include "bpf/types.h"

namespace petrel::test {

// All that are in it; throws if it cannot be read.
std::vector<bpf::connection> read_connections(const std::string& pin_path);

}  // namespace petrel::test
