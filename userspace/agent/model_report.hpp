// SPDX-License-Identifier: MIT
// What the API says of models: in status, and of each request about them.
#pragma once

#include <boost/json/object.hpp>

#include "agent/model_life.hpp"
#include "watch/comparison.hpp"

namespace petrel {

// {"name", "version", "checksum"}; null where there is none.
boost::json::value model_name_json(const Model* model);

// How probabilities met what then happened.
boost::json::object measures_json(const WatchMeasures& measures);

// The member "model" of petrel/status/v1. `held`: no service acts on the model now.
boost::json::object model_status_json(const Model& live, const ModelLife& life, bool held);

// petrel/model-compare/v1; `objection`: why the shadow would not be promoted, "" for nothing.
boost::json::object comparison_json(const ModelLife& life, const Comparison& comparison,
                                    const std::string& objection);

}  // namespace petrel
