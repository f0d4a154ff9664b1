// SPDX-License-Identifier: MIT
// What a service in shadow would have done: petrel/report/v1.
#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>

#include "agent/agent.hpp"
#include "agent/reply.hpp"
#include "agent/self_check_report.hpp"

namespace petrel {
namespace json = boost::json;
namespace {

constexpr double kMostSinceS = 86400;

json::value known(double value) {
  return std::isfinite(value) ? json::value(value) : json::value(nullptr);
}

double factor_of(const ServiceLoop& service, const BackendLoop& backend) {
  // A model that is not believed would move nothing.
  return service.held() ? 1 : backend.decision.factor;
}

}  // namespace

// Each tick.
void Agent::follow_shadow(const ServiceLoop& service, std::uint64_t now_ns) {
  const ServiceConfig& config = service.config();
  const bool in_shadow =
      !service.is_leaving() && config.is_balanced() && config.mode == ServiceMode::kShadow;
  if (!in_shadow) {
    shadow_tallies_.erase(config.id);
    return;
  }
  double base = 0, computed = 0;
  for (const BackendLoop& backend : service.backends()) {
    if (backend.drains() || backend.leaving) continue;
    const double weight = static_cast<double>(backend.config.weight) * backend.hand_q16;
    base += weight;
    computed += weight * factor_of(service, backend);
  }
  std::vector<ShareRatio> ratios;
  for (const BackendLoop& backend : service.backends()) {
    const bool takes_part = !backend.drains() && !backend.leaving && computed > 0;
    ratios.push_back(
        {backend.config.id, takes_part ? factor_of(service, backend) * base / computed : 1.0});
  }
  shadow_tallies_[config.id].on_tick(ratios, now_ns);
}

ApiReply Agent::answer_report(const ApiRequest& request) const {
  const auto asked = [&](const std::string& key) {
    const auto found = request.query.find(key);
    return found == request.query.end() ? std::string() : found->second;
  };
  const std::string name = asked("service"), since = asked("since_s");
  double since_s = 3600;
  if (!since.empty()) {
    const auto parsed = std::from_chars(since.data(), since.data() + since.size(), since_s);
    const bool whole = parsed.ec == std::errc{} && parsed.ptr == since.data() + since.size();
    if (!whole || !(since_s > 0 && since_s <= kMostSinceS)) {
      return refused(400,
                     Error(ExitCode::kUsage,
                           "since_s: expected seconds up to 86400 (a day), found '" + since + "'"));
    }
  }
  const auto service = std::ranges::find_if(services_, [&](const ServiceLoop& candidate) {
    return !candidate.is_leaving() && candidate.config().name == name;
  });
  if (service == services_.end()) {
    return refused(404, Error(ExitCode::kUsage, "no service is called '" + name + "'"));
  }
  ShadowFigures figures;
  if (const auto tally = shadow_tallies_.find(service->config().id);
      tally != shadow_tallies_.end()) {
    const auto span_ns = static_cast<std::uint64_t>(since_s * 1e9);
    figures = tally->second.figures(tick_ns_ - std::min(tick_ns_, span_ns), tick_ns_);
  }
  const DecisionLog& log = *log_;
  json::value path = nullptr;
  if (log.settings().sqlite) path = json::string(decisions_db(log.directory()));
  return replied({{"schema", "petrel/report/v1"},
                  {"service", name},
                  {"mode", to_string(service->config().mode)},
                  {"since_s", since_s},
                  {"covers_s", figures.covers_s},
                  {"flows", figures.flows},
                  {"moved_flows", figures.moved_flows},
                  {"retried", figures.retried},
                  {"retried_left", figures.retried_left},
                  {"saved",
                   {{"value", known(figures.saved.value)},
                    {"low", known(figures.saved.low)},
                    {"high", known(figures.saved.high)}}},
                  {"parts", figures.parts},
                  {"lost_events_share", losses_.lost_share()},
                  {"self_check", self_check_json(*this, *service)},
                  {"decision_log", std::move(path)}});
}

}  // namespace petrel
