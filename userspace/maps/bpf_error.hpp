// SPDX-License-Identifier: MIT
// The one place where libbpf's ways of failing become an Error, and its log becomes ours.
#pragma once

#include <string_view>

#include "base/error.hpp"

namespace petrel {

// From a negative errno as libbpf returns it. EPERM says what is needed and what to do.
Error bpf_error(int negative_errno, std::string_view what);

// libbpf's messages go to the log at debug level. What it last complained of is kept, for errors
// whose errno alone does not tell (a verifier's refusal).
void capture_libbpf_log();

}  // namespace petrel
