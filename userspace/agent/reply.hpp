// SPDX-License-Identifier: MIT
// The API's answers as JSON.
#pragma once

#include <boost/json.hpp>

#include "api/server.hpp"
#include "base/error.hpp"

namespace petrel {

inline ApiReply replied(const boost::json::value& value) {
  return {200, "application/json", boost::json::serialize(value), nullptr};
}

// With the exit code that the command line ends with.
inline ApiReply refused(unsigned status, const Error& error) {
  const boost::json::object body{{"error", error.message()},
                                 {"exit_code", static_cast<int>(error.kind())}};
  return {status, "application/json", boost::json::serialize(body), nullptr};
}

}  // namespace petrel
