// SPDX-License-Identifier: MIT
#include "agent/serving_model.hpp"

namespace petrel {
namespace {

// Scores everything alike, so that no weight moves.
Result<Model> untrained_model() {
  Model model;
  model.name = "untrained";
  model.version = 0;
  model.bias = -12;
  if (auto quantized = quantize(model); !quantized) return quantized.error();
  return model;
}

}  // namespace

Result<Model> model_for(const Config& config, const AgentOptions& options) {
  if (!options.untrained) return load_model(config.agent.model);
  for (const ServiceConfig& service : config.services) {
    if (service.mode != ServiceMode::kAct) continue;
    return Error(ExitCode::kUsage, "service " + service.name +
                                       ": mode act needs a model: use --mode neutral without one");
  }
  return untrained_model();
}

}  // namespace petrel
