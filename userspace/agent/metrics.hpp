// SPDX-License-Identifier: MIT
// What the agent tells of services and its model to Prometheus: GET /metrics on the API's socket.
//
// From petrel/status/v1, so that both say the same. What is not known has no sample.
#pragma once

#include <boost/json/value.hpp>
#include <string>

namespace petrel {

// Prometheus' text format 0.0.4.
std::string metrics_text(const boost::json::value& status);

}  // namespace petrel
