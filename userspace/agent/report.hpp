// SPDX-License-Identifier: MIT
// The agent's state as JSON: petrel/status/v1 and petrel/explain/v1.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "agent/agent.hpp"

namespace petrel {

boost::json::value status_json(const Agent& agent);

// Why a backend's weight is what it is.
boost::json::value explain_json(const Agent& agent, const ServiceLoop& service,
                                const BackendLoop& backend);

// Whether and how long a backend still keeps its flows, and how many it has.
boost::json::object drain_json(const BackendLoop& backend);

// What a service may still spend on retries.
boost::json::object budget_json(const Agent& agent, const ServiceLoop& service,
                                const bpf::budget& budget);

std::string_view state_name(bpf::backend_state state);
std::string_view reason_name(bpf::weight_reason reason);
std::string_view failure_name(std::uint8_t failure);
std::string_view verdict_name(std::size_t verdict);

// The duration, in ns, under which a share (0 to 1) of a histogram's entries lie; 0 without any.
double histogram_quantile_ns(std::span<const std::uint32_t> buckets, double share);

}  // namespace petrel
