// SPDX-License-Identifier: MIT
// What the API is asked: each path, and what it changes.
#include <algorithm>
#include <charconv>

#include "agent/agent.hpp"
#include "agent/metrics.hpp"
#include "agent/reply.hpp"
#include "agent/report.hpp"
#include "base/clock.hpp"

namespace petrel {
namespace asio = boost::asio;
namespace json = boost::json;
namespace {

constexpr std::uint64_t kMostDrainS = 86400;

ApiReply usage(unsigned status, const std::string& text) {
  return refused(status, Error(ExitCode::kUsage, text));
}

// "" where it is not asked.
std::string asked(const ApiRequest& request, const std::string& key) {
  const auto found = request.query.find(key);
  return found == request.query.end() ? "" : found->second;
}

// What "KEY=VALUE" asks for, within limits; no value: nothing is asked.
Result<std::optional<double>> number(const ApiRequest& request, const std::string& key,
                                     double least, double most) {
  const auto found = request.query.find(key);
  if (found == request.query.end()) return std::optional<double>{};
  const std::string& text = found->second;
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size();
  if (whole && value >= least && value <= most) return std::optional<double>{value};
  return Error(ExitCode::kUsage, key + ": expected a number from " + json::serialize(json::value(least)) +
                                     " to " + json::serialize(json::value(most)) + ", found '" + text + "'");
}

struct Named {
  ServiceLoop* service;
  BackendLoop* backend;
};

// The backends of that name, of one service or of all.
std::vector<Named> find_named(std::vector<ServiceLoop>& services, const std::string& service_name,
                              const std::string& name) {
  std::vector<Named> found;
  for (ServiceLoop& service : services) {
    if (!service_name.empty() && service.config().name != service_name) continue;
    for (BackendLoop& backend : service.backends()) {
      if (backend.config.name == name) found.push_back({&service, &backend});
    }
  }
  return found;
}

json::array lines_json(const std::vector<std::string>& lines) {
  json::array out;
  for (const std::string& line : lines) out.push_back(json::string(line));
  return out;
}

}  // namespace

asio::awaitable<ApiReply> Agent::answer(ApiRequest request) {
  if (request.path.starts_with("/v1/model/")) co_return co_await answer_model(std::move(request));
  if (request.is_post) {
    if (request.path == "/v1/reload") co_return co_await answer_reload();
    if (request.path == "/v1/drain") co_return co_await answer_drain(std::move(request));
    if (request.path == "/v1/release") co_return co_await answer_release(std::move(request));
    for (const OverrideKind kind :
         {OverrideKind::kWeight, OverrideKind::kFreeze, OverrideKind::kNeutral}) {
      if (request.path != "/v1/" + std::string(to_string(kind))) continue;
      co_return co_await answer_override(std::move(request), kind);
    }
    if (request.path == "/v1/budget") co_return answer_budget(request);
    if (request.path == "/v1/checkpoint") co_return answer_checkpoint();
  } else {
    if (request.path == "/v1/status") co_return replied(status_json(*this));
    if (request.path == "/v1/report") co_return answer_report(request);
    if (request.path == "/metrics") {
      co_return ApiReply{200, "text/plain; version=0.0.4", metrics_text(status_json(*this)), nullptr};
    }
    if (request.path == "/v1/explain") co_return explain(request);
    if (request.path == "/v1/capture") co_return open_capture(request);
    if (request.path == "/v1/budget") co_return answer_budget(request);
    if (request.path == "/v1/tap") co_return co_await open_tap(std::move(request));
  }
  co_return usage(404, std::string("no such path for ") + (request.is_post ? "POST: " : "GET: ") +
                           request.path);
}

ApiReply Agent::explain(const ApiRequest& request) const {
  const std::string name = asked(request, "backend");
  const std::string in_service = asked(request, "service");
  if (name.empty()) return usage(400, "explain: expected ?backend=NAME");
  for (const ServiceLoop& service : services_) {
    if (!in_service.empty() && in_service != service.config().name) continue;
    for (const BackendLoop& backend : service.backends()) {
      if (backend.config.name == name) return replied(explain_json(*this, service, backend));
    }
  }
  return refused(404, Error(ExitCode::kRuntime, "no backend is called " + name));
}

asio::awaitable<ApiReply> Agent::answer_reload() {
  const auto done = co_await reload();
  if (!done) {
    const bool bad_input = done.error().kind() == ExitCode::kInput;
    co_return refused(bad_input ? 422 : 500, done.error());
  }
  co_return replied({{"schema", "petrel/reload/v1"},
                     {"config", options_.config_path},
                     {"changes", lines_json(done->changes)},
                     {"warnings", lines_json(done->warnings)},
                     {"programs_replaced", done->programs_replaced}});
}

asio::awaitable<ApiReply> Agent::answer_drain(ApiRequest request) {
  const std::string name = asked(request, "backend");
  const std::string in_service = asked(request, "service");
  const auto deadline_s = number(request, "deadline_s", 0, kMostDrainS);
  if (!deadline_s) co_return refused(400, deadline_s.error());
  auto wanted = override_of(request, OverrideKind::kDrain);
  if (!wanted) co_return refused(400, wanted.error());
  Override order = std::move(*wanted);
  const auto found = find_named(services_, in_service, name);
  if (found.empty()) co_return usage(404, "no backend is called " + name);
  if (found.size() > 1) {
    co_return usage(409, name + " is a backend of " + std::to_string(found.size()) +
                          " services: name one with --service");
  }
  auto [service, backend] = found.front();
  std::uint64_t drained_ns = 0;
  if (asked(request, "undo").empty()) {
    const std::chrono::duration<double> configured = service->config().drain_deadline;
    const double wait_s = deadline_s->value_or(configured.count());
    drained_ns = monotonic_ns() + static_cast<std::uint64_t>(wait_s * 1e9);
    order.drained_ns = order.since_ns + static_cast<std::int64_t>(wait_s * 1e9);
  } else if (backend->leaving) {
    co_return usage(409, name + " is no longer in the configuration: add it and reload");
  }
  if (auto done = drain(*service, *backend, drained_ns); !done) co_return refused(500, done.error());

  order.service = service->config().name;
  order.backend = backend->config.name;
  if (drained_ns == 0) {
    overrides_.release(order.service, order.backend, OverrideKind::kDrain);
    log_override(order, "released", "(by " + order.by + ", uid " + std::to_string(order.uid) + ")");
  } else if (!backend->leaving) {
    overrides_.put(order);
    log_override(order, "ordered", "(by " + order.by + ", uid " + std::to_string(order.uid) +
                                       (order.reason.empty() ? "" : ": " + order.reason) + ")");
  }
  json::object out = drain_json(*backend);
  out["schema"] = "petrel/drain/v1";
  out["service"] = service->config().name;
  out["backend"] = backend->config.name;
  json::array warnings;
  if (std::ranges::all_of(service->backends(), [](const BackendLoop& b) { return b.drains(); })) {
    warnings.push_back(json::string("no backend of " + service->config().name +
                                    " takes new flows now"));
  }
  if (drained_ns == 0 && backend->config.drain) {
    warnings.push_back("the configuration says drain = true: the next reload drains it again");
  }
  if (auto kept = co_await keep_overrides(); !kept) {
    warnings.push_back(json::string("in force, but not over a restart of the host: " + kept.error().message()));
  }
  out["warnings"] = std::move(warnings);
  co_return replied(out);
}

ApiReply Agent::answer_budget(const ApiRequest& request) {
  const std::string named = asked(request, "service");
  std::vector<ServiceLoop*> found;
  for (ServiceLoop& service : services_) {
    if (!service.is_leaving() && (named.empty() || service.config().name == named)) {
      found.push_back(&service);
    }
  }
  if (found.empty()) return usage(404, "no service is called " + named);
  if (request.is_post) {
    // The limits of the configuration.
    const auto tokens = number(request, "tokens", 0, 1e8);
    const auto ratio = number(request, "ratio", 0, 10);
    const auto min_per_s = number(request, "min_per_s", 0, 1e6);
    const auto burst_s = number(request, "burst_s", 0.1, 60);
    const auto idle_ratio = number(request, "idle_ratio", 0, 10);
    for (const auto* value : {&tokens, &ratio, &min_per_s, &burst_s, &idle_ratio}) {
      if (!*value) return refused(400, value->error());
    }
    if (found.size() > 1) return usage(400, "name the service whose budget is to be set");
    ServiceLoop& service = *found.front();
    BudgetConfig& budget = service.budget();
    budget.ratio = ratio->value_or(budget.ratio);
    budget.min_per_s = min_per_s->value_or(budget.min_per_s);
    budget.burst_s = burst_s->value_or(budget.burst_s);
    budget.idle_ratio = idle_ratio->value_or(budget.idle_ratio);
    if (auto written = write_budget(service); !written) return refused(500, written.error());
    if (*tokens) {
      auto set = tables_->set_tokens(service.config().id, **tokens);
      if (!set) return refused(500, set.error());
    }
  }
  json::array services;
  for (const ServiceLoop* service : found) {
    const auto budget = tables_->read_budget(service->config().id);
    if (!budget) return refused(500, budget.error());
    services.push_back(budget_json(*this, *service, *budget));
  }
  return replied({{"schema", "petrel/budget/v1"}, {"services", std::move(services)}});
}

}  // namespace petrel
