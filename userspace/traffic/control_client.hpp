// SPDX-License-Identifier: MIT
// ask(): one question to a backend's control socket.
#pragma once

#include <boost/json/object.hpp>
#include <string>

#include "base/error.hpp"

namespace petrel::traffic {

// kUnreachable when nobody answers within 5 s; kRuntime with the backend's own words when it
// answers that it cannot.
Result<boost::json::object> ask(const std::string& control_path,
                                const boost::json::object& request);

}  // namespace petrel::traffic
