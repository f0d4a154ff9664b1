// SPDX-License-Identifier: MIT
// What the API is asked of models: another shadow, how it does beside the live one, and which of
// them is to be live.
#include <spdlog/spdlog.h>

#include "agent/agent.hpp"
#include "agent/model_report.hpp"
#include "agent/model_store.hpp"
#include "agent/offload.hpp"
#include "agent/reply.hpp"
#include "base/clock.hpp"

namespace petrel {
namespace asio = boost::asio;
namespace json = boost::json;
namespace {

std::string asked(const ApiRequest& request, const std::string& key) {
  const auto found = request.query.find(key);
  return found == request.query.end() ? "" : found->second;
}

// Who, as the command line says: the socket is root's alone, so it is for the log only.
std::string by(const ApiRequest& request) {
  std::string who = asked(request, "by").substr(0, 64);
  for (char& c : who) {
    if (static_cast<unsigned char>(c) < 0x20) c = '?';
  }
  return who.empty() ? "" : " (asked by " + who + ")";
}

ApiReply no_shadow() {
  return refused(409, Error(ExitCode::kRuntime,
                            "there is no shadow model: `petrel model shadow FILE` gives one"));
}

ApiReply no_model() {
  return refused(409, Error(ExitCode::kRuntime, "the agent runs untrained: it has no model"));
}

// The reload has read the state directory already.
ApiReply reloading() {
  return refused(409, Error(ExitCode::kConflict, "a reload is just under way: try again"));
}

std::string name_of(const Model& model) {
  return model.name + " v" + std::to_string(model.version) + " (" + model_checksum(model) + ")";
}

}  // namespace

asio::awaitable<ApiReply> Agent::answer_model(ApiRequest request) {
  if (!life_->trained()) co_return no_model();
  if (request.is_post) {
    if (request.path == "/v1/model/shadow") co_return answer_shadow(request);
    if (request.path == "/v1/model/accept") co_return answer_accept(request);
    if (request.path == "/v1/model/rollback") co_return answer_rollback(request);
    if (request.path == "/v1/model/promote") co_return co_await answer_promote(std::move(request));
  } else if (request.path == "/v1/model/compare") {
    co_return co_await answer_compare();
  }
  co_return refused(404, Error(ExitCode::kUsage, "no such path: " + request.path));
}

ApiReply Agent::answer_shadow(const ApiRequest& request) {
  std::optional<Model> shadow;
  if (asked(request, "off").empty()) {
    auto model = load_model(asked(request, "file"));
    if (!model) return refused(422, model.error());
    if (*model == model_) {
      return refused(409,
                     Error(ExitCode::kRuntime, name_of(model_) + " is the live model already"));
    }
    shadow = std::move(*model);
  } else if (!life_->shadow()) {
    return no_shadow();
  }
  spdlog::info("shadow model: {}{}", shadow ? name_of(*shadow) : "none", by(request));
  life_->set_shadow(std::move(shadow));
  return replied(
      json::object{{"schema", "petrel/model-shadow/v1"},
                   {"live", model_name_json(&model_)},
                   {"shadow", model_name_json(life_->shadow() ? &*life_->shadow() : nullptr)}});
}

ApiReply Agent::answer_accept(const ApiRequest& request) {
  const bool was_drifted = life_->judge().state() == ModelState::kDrifted;
  spdlog::info("model {} is accepted as it is: its figures begin anew{}", name_of(model_),
               by(request));
  life_->accept();
  follow_model_state();
  return replied(json::object{{"schema", "petrel/model-accept/v1"},
                              {"live", model_name_json(&model_)},
                              {"was_drifted", was_drifted}});
}

// Of a copy: the loop goes on meanwhile, and with it the watch.
asio::awaitable<Comparison> Agent::compare_models() {
  const ModelWatch copy = life_->watch();
  co_return co_await run_beside(loader_, [&of = copy] { return compare(of); });
}

asio::awaitable<ApiReply> Agent::answer_compare() {
  if (!life_->shadow()) co_return no_shadow();
  const Comparison comparison = co_await compare_models();
  co_return replied(
      comparison_json(*life_, comparison, objection(comparison, life_->config().ece_limit)));
}

asio::awaitable<ApiReply> Agent::answer_promote(ApiRequest request) {
  if (!life_->shadow()) co_return no_shadow();
  const bool forced = !asked(request, "force").empty();
  const Model next = *life_->shadow();
  const Comparison comparison = co_await compare_models();
  if (replacing_) co_return reloading();
  if (!life_->shadow() || !(*life_->shadow() == next)) {
    co_return refused(
        409, Error(ExitCode::kConflict, "the shadow was changed meanwhile: compare again"));
  }
  const std::string against = objection(comparison, life_->config().ece_limit);
  if (!against.empty() && !forced) {
    co_return refused(409, Error(ExitCode::kUnhealthy, "not promoted: " + against +
                                                           "; --force promotes it all the same"));
  }
  const Model former = model_;
  auto file = ModelStore(config_.agent.state_dir, config_.agent.model).promote(former, next);
  if (!file) co_return refused(500, file.error().within("promote " + next.name));
  spdlog::info("model {} is promoted over {}{}{}", name_of(next), name_of(former),
               against.empty() ? "" : ", by force: " + against, by(request));
  put_in_force(next, *file, former);
  life_->set_shadow(std::nullopt);
  co_return replied(json::object{{"schema", "petrel/model-promote/v1"},
                                 {"live", model_name_json(&model_)},
                                 {"previous", model_name_json(&former)},
                                 {"file", *file},
                                 {"forced", !against.empty()}});
}

ApiReply Agent::answer_rollback(const ApiRequest& request) {
  if (replacing_) return reloading();
  if (!life_->previous()) {
    return refused(409, Error(ExitCode::kRuntime, "there is no former model to go back to"));
  }
  const Model former = model_;
  const Model previous = *life_->previous();
  auto file = ModelStore(config_.agent.state_dir, config_.agent.model).roll_back(previous);
  if (!file) return refused(500, file.error().within("roll back to " + previous.name));
  spdlog::info("model {} is rolled back to {}{}", name_of(former), name_of(previous), by(request));
  put_in_force(previous, *file, std::nullopt);
  // It goes on being watched, unless another one is.
  if (!life_->shadow() || *life_->shadow() == previous) life_->set_shadow(former);
  return replied(json::object{{"schema", "petrel/model-rollback/v1"},
                              {"live", model_name_json(&model_)},
                              {"former", model_name_json(&former)},
                              {"file", *file}});
}

void Agent::put_in_force(Model model, std::string source, std::optional<Model> previous) {
  loop_.set_model(model);
  follow_model_text();
  if (auto scoring = follow_kernel_score(); !scoring) failure_ = scoring.error();
  life_->begin(std::move(model), std::move(source), std::move(previous));
  ask_checkpoints();
  follow_model_state();
}

void Agent::follow_model_state() {
  if (life_->should_hold() == loop_.held()) return;
  loop_.hold(life_->should_hold());
  ask_checkpoints();
  for (ServiceLoop& service : services_) {
    write_decisions(service, {});
    if (service.is_leaving()) continue;
    tables_->write_rings(service.config().id, service.neutral(), service.in_force());
  }
}

}  // namespace petrel
