// SPDX-License-Identifier: MIT
// The other end of the agent's API: blocking calls for the command line.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace petrel {

// The body of GET `target` from the agent at `socket_path`. Errors: kUnreachable when no agent
// answers there; the agent's own refusal: its "error" field, with its "exit_code" or kRuntime.
Result<std::string> api_get(const std::string& socket_path, const std::string& target);

// The same of POST, which changes something.
Result<std::string> api_post(const std::string& socket_path, const std::string& target);

// A value in a target's query, with what HTTP has other uses for as %XX.
std::string percent_encode(std::string_view text);

// GET of a stream: hands over each piece until `keep_going` says no (asked at least every 200 ms)
// or the agent ends it.
Result<void> api_stream(const std::string& socket_path, const std::string& target,
                        const std::function<void(std::string_view)>& piece,
                        const std::function<bool()>& keep_going);

}  // namespace petrel
