// SPDX-License-Identifier: MIT
// What the API says of a service beside its weights: the members "self_check" and "edge" of its
// part of petrel/status/v1.
#pragma once

#include <boost/json/object.hpp>

#include "agent/agent.hpp"

namespace petrel {

// Learned weights against those without, and predictions against what happened.
boost::json::object self_check_json(const Agent& agent, const ServiceLoop& service);

// How near it is to a storm that sustains itself; null: not known.
boost::json::object edge_json(const EdgeReading& edge);

}  // namespace petrel
