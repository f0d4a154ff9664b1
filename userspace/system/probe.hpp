// SPDX-License-Identifier: MIT
// gather(): asks the kernel for everything that SystemFacts holds. Changes nothing.
//
// In the caller's network namespace; veth peers in others are looked up there, by a thread that
// ends. What cannot be asked for want of a capability or of kernel support is left unknown.
#pragma once

#include "base/error.hpp"
#include "config/config.hpp"
#include "system/facts.hpp"

namespace petrel {

// Fails only where rtnetlink does not answer.
Result<SystemFacts> gather(const Config& config);

}  // namespace petrel
