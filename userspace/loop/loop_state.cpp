// SPDX-License-Identifier: MIT
// A loop as lines of text, and back: what a capture begins with, so that its replay begins where
// the agent stood.
#include <algorithm>

#include "config/address.hpp"
#include "loop/loop.hpp"

namespace petrel {
namespace {

constexpr std::string_view kDrifted = "drifted";

std::string service_line(std::uint32_t id) { return "service/" + std::to_string(id); }
std::string backend_line(const std::string& service, std::uint32_t id) {
  return service + "/backend/" + std::to_string(id);
}

template <class Fields>
void archive_settings(Fields& fields, WeightSettings& settings) {
  fields("gain", settings.gain);
  fields("floor", settings.floor);
  fields("panic_share", settings.panic_share);
  fields("growth_cap", settings.growth_cap);
  fields("slow_start_per_s", settings.slow_start_per_s);
  fields("min_samples", settings.min_samples);
}

// What a score is made of; not how the model came to be: an untrained one has no such facts.
template <class State>
void archive_model(State& state, Model& model, std::uint32_t& kernel_generation) {
  state.line("model", [&](auto& fields) {
    fields("version", model.version);
    fields("bias", model.bias);
    fields("kernel_generation", kernel_generation);
  });
  bool calibrated = model.calibration_q16.has_value();
  state.line("model/calibration", [&](auto& fields) {
    fields("calibrated", calibrated);
    if (!calibrated) return model.calibration_q16.reset();
    if (!model.calibration_q16) model.calibration_q16.emplace();
    for (std::size_t i = 0; i < CALIBRATION_KNOTS; ++i) {
      fields("knot_" + std::to_string(i) + "_q16", (*model.calibration_q16)[i]);
    }
  });
  for (std::size_t i = 0; i < kFeatureCount; ++i) {
    ModelFeature& feature = model.features[i];
    state.line("model/feature/" + std::string(kFeatures[i].name), [&](auto& fields) {
      fields("mean", feature.mean);
      fields("scale", feature.scale);
      fields("coefficient", feature.coefficient);
      fields("min_q16", feature.min_q16);
      fields("max_q16", feature.max_q16);
    });
  }
}

// What the loop reads of a backend's configuration.
template <class Fields>
void archive_config(Fields& fields, BackendConfig& config, bool& leaving) {
  std::string address = to_string(config.address);
  fields("address", address);
  if constexpr (Fields::kLoads) {
    if (const auto parsed = parse_address(address)) config.address = *parsed;
  }
  fields("port", config.port);
  fields("weight", config.weight);
  fields("other_zone", config.other_zone);
  fields("capacity_per_s", config.capacity_per_s);
  fields("leaving", leaving);
}

}  // namespace

template <class State>
void ServiceLoop::archive(State& state, const std::string& name) {
  state.line(name + "/control", [&](auto& fields) {
    controller_.archive(fields);
    fields("moved_slots", moved_slots_);
  });
  for (BackendLoop& backend : backends_) {
    state.line(backend_line(name, backend.config.id) + "/state", [&](auto& fields) {
      WeightDecision& decision = backend.decision;
      fields("drained_ns", backend.drained_ns);
      fields("changed_ns", backend.changed_ns);
      fields("factor", decision.factor);
      fields("factor_q16", decision.factor_q16);
      fields("reason", decision.reason);
      fields("risk_q16", backend.reading.risk_q16);
      backend.risk.archive(fields);
      backend.capacity.archive(fields);
      controller_.archive_backend(fields, backend.config.id);
    });
  }
}

void ServiceLoop::save(StateOut& out, const std::string& name) {
  std::vector<std::uint32_t> ids;
  for (const BackendLoop& backend : backends_) ids.push_back(backend.config.id);
  std::string list = join_ids(ids);
  out.line(name, [&](auto& fields) {
    fields("id", config_.id);
    fields("mode", config_.mode);
    fields("capacity_guard", config_.capacity_guard);
    fields("leaving", leaving_);
    fields("backends", list);
    archive_settings(fields, settings_);
  });
  out.text(name + "/name", config_.name);
  for (BackendLoop& backend : backends_) {
    const std::string line = backend_line(name, backend.config.id);
    out.line(line, [&](auto& fields) { archive_config(fields, backend.config, backend.leaving); });
    out.text(line + "/name", backend.config.name);
  }
  archive(out, name);
  save_orders(out, name);
  save_ring(out, name);
}

void ServiceLoop::save_orders(StateOut& out, const std::string& name) const {
  out.line(name + "/holdout", [&](auto& fields) {
    fields("share", config_.is_balanced() ? config_.holdout : 0.0);
    fields("by_client", config_.affinity == Affinity::kClient);
    fields("harmed", harmed_);
  });
  out.line(name + "/order", [&](auto& fields) { fields("order", order_); });
  for (const BackendLoop& backend : backends_) {
    out.line(backend_line(name, backend.config.id) + "/order", [&](auto& fields) {
      fields("hand_q16", backend.hand_q16);
      fields("frozen_q16", backend.frozen_q16);
    });
  }
}

void ServiceLoop::load_orders(StateIn& in, const std::string& name) {
  config_.holdout = 0;  // captures from before it had none
  bool by_client = false;
  in.line(name + "/holdout", [&](auto& fields) {
    fields("share", config_.holdout);
    fields("by_client", by_client);
    fields("harmed", harmed_);
  });
  config_.affinity = by_client ? Affinity::kClient : Affinity::kFlow;
  in.line(name + "/order", [&](auto& fields) { fields("order", order_); });
  for (BackendLoop& backend : backends_) {
    in.line(backend_line(name, backend.config.id) + "/order", [&](auto& fields) {
      fields("hand_q16", backend.hand_q16);
      fields("frozen_q16", backend.frozen_q16);
    });
  }
}

ServiceLoop ServiceLoop::load(StateIn& in, const std::string& name) {
  ServiceConfig config;
  WeightSettings settings;
  bool leaving = false;
  std::string list;
  in.line(name, [&](auto& fields) {
    fields("id", config.id);
    fields("mode", config.mode);
    fields("capacity_guard", config.capacity_guard);
    fields("leaving", leaving);
    fields("backends", list);
    archive_settings(fields, settings);
  });
  in.text(name + "/name", config.name);
  std::vector<BackendConfig> gone;
  for (const std::uint32_t id : split_ids(list)) {
    BackendConfig backend;
    bool is_gone = false;
    backend.id = id;
    const std::string line = backend_line(name, id);
    in.line(line, [&](auto& fields) { archive_config(fields, backend, is_gone); });
    in.text(line + "/name", backend.name);
    (is_gone ? gone : config.backends).push_back(backend);
  }
  ServiceLoop loop(config, settings);
  loop.leaving_ = leaving;
  for (const BackendConfig& backend : gone) loop.add_leaving(backend);
  loop.archive(in, name);
  loop.load_orders(in, name);
  loop.build_neutral_ring(static_cast<std::uint32_t>(loop.neutral_.size()));
  loop.load_ring(in, name);
  return loop;
}

// Slots that are not as in the neutral ring, which follows from who takes part: "slot:backend,...".
void ServiceLoop::save_ring(StateOut& out, const std::string& name) const {
  std::string moved;
  for (std::size_t slot = 0; slot < in_force_.size(); ++slot) {
    if (in_force_[slot] == neutral_[slot]) continue;
    if (!moved.empty()) moved += ',';
    moved += std::to_string(slot) + ":" + std::to_string(in_force_[slot]);
  }
  out.text(name + "/ring", moved);
}

void ServiceLoop::load_ring(StateIn& in, const std::string& name) {
  std::string moved;
  in.text(name + "/ring", moved);
  in_force_ = neutral_;
  std::string_view rest = moved;
  while (!rest.empty()) {
    const std::string_view one = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    std::size_t slot = 0;
    std::uint32_t backend_id = 0;
    const auto [colon, slot_code] = std::from_chars(one.data(), one.data() + one.size(), slot);
    const char* const end = one.data() + one.size();
    const bool whole = slot_code == std::errc{} && colon != end && *colon == ':' &&
                       std::from_chars(colon + 1, end, backend_id).ptr == end;
    if (!whole || slot >= in_force_.size()) {
      in.fail(name + "/ring: expected slot:backend,..., found \"" + std::string(one) + "\"");
      break;
    }
    in_force_[slot] = backend_id;
  }
  count_slots();
}

void Loop::save(StateOut& out) {
  std::vector<std::uint32_t> ids;
  for (const ServiceLoop& service : services_) ids.push_back(service.config().id);
  std::string list = join_ids(ids);
  std::string model_state = held_ ? std::string(kDrifted) : "good";
  out.line("loop", [&](auto& fields) {
    fields("services", list);
    fields("model_state", model_state);
  });
  out.text("model/name", model_.name);
  archive_model(out, model_, kernel_generation_);
  for (ServiceLoop& service : services_) service.save(out, service_line(service.config().id));
  features_.archive(out);
}

Result<Loop> Loop::load(StateIn& in) {
  std::string list;
  Model model;
  std::string model_state;  // "" in captures before it: no model was ever watched
  in.line("loop", [&](auto& fields) {
    fields("services", list);
    fields("model_state", model_state);
  });
  const bool held = model_state == kDrifted;
  in.text("model/name", model.name);
  std::uint32_t kernel_generation = 0;
  archive_model(in, model, kernel_generation);
  if (in.error()) return Error(ExitCode::kInput, *in.error());
  if (auto quantized = quantize(model); !quantized) {
    return Error(ExitCode::kInput, quantized.error().within("model").message());
  }
  Loop loop(Model{});
  loop.set_model(std::move(model), kernel_generation);
  for (const std::uint32_t id : split_ids(list)) {
    loop.services_.push_back(ServiceLoop::load(in, service_line(id)));
    loop.services_.back().hold(held);  // its ring was saved as it stands
  }
  loop.held_ = held;
  loop.features_.archive(in);
  if (in.error()) return Error(ExitCode::kInput, *in.error());
  return loop;
}

}  // namespace petrel
