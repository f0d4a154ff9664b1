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

Result<ServingModel> model_for(const Config& config, const AgentOptions& options, bool at_start) {
  if (!options.untrained) {
    return ModelStore(config.agent.state_dir, config.agent.model).load(at_start);
  }
  for (const ServiceConfig& service : config.services) {
    if (service.mode != ServiceMode::kAct) continue;
    return Error(ExitCode::kUsage, "service " + service.name +
                                       ": mode act needs a model: use --mode neutral without one");
  }
  auto model = untrained_model();
  if (!model) return model.error();
  return ServingModel{std::move(*model), "", std::nullopt, {}};
}

Result<std::optional<Model>> shadow_for(const Config& config, const Model& live) {
  if (config.model_watch.shadow_model.empty()) return std::optional<Model>{};
  auto model = load_model(config.model_watch.shadow_model);
  if (!model) return model.error().within("model_watch.shadow_model");
  if (*model == live) return std::optional<Model>{};
  return std::optional<Model>(std::move(*model));
}

}  // namespace petrel
