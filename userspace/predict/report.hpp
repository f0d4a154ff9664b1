// SPDX-License-Identifier: MIT
// A prediction as text for people, and as petrel/predict/v1.
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <vector>

#include "predict/predictor.hpp"

namespace petrel {

std::string prediction_text(const Predictor& predictor, const Request& request,
                            const Prediction& prediction);
boost::json::object prediction_json(const Predictor& predictor, const Request& request,
                                    const Prediction& prediction);

// What is to be said of what was given and what was not: "bytes_sent: not used by model retry v1".
std::vector<std::string> prediction_notes(const Predictor& predictor, const Request& request,
                                          const Prediction& prediction);

// "retry v1"
std::string model_title(const Model& model);

// The names of features whose bits are set, in the model's order.
std::vector<std::string_view> feature_names(std::uint64_t bits);

}  // namespace petrel
