// SPDX-License-Identifier: MIT
// Overrides in a running agent: given, released, over, and found again at a start.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "agent/agent.hpp"
#include "agent/offload.hpp"
#include "agent/reply.hpp"
#include "agent/state_file.hpp"
#include "base/clock.hpp"

namespace petrel {
namespace asio = boost::asio;
namespace json = boost::json;
namespace {

constexpr double kLongestForS = 30 * 86400;
constexpr std::size_t kLongestReason = 200;
constexpr std::size_t kLongestBy = 64;

ApiReply usage(unsigned status, const std::string& text) {
  return refused(status, Error(ExitCode::kUsage, text));
}

std::string asked(const ApiRequest& request, const std::string& key) {
  const auto found = request.query.find(key);
  return found == request.query.end() ? "" : found->second;
}

// It goes to terminals and logs.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

Result<double> number(const ApiRequest& request, const std::string& key, double least, double most,
                      const char* expected) {
  const std::string text = asked(request, key);
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size();
  if (whole && value >= least && value <= most) return value;
  return Error(ExitCode::kUsage, key + ": expected " + expected + ", found '" + text + "'");
}

std::int64_t realtime_ns() { return static_cast<std::int64_t>(read_clocks().realtime_ns); }

std::string names_of(const std::vector<ServiceLoop>& services) {
  std::string names;
  for (const ServiceLoop& service : services) {
    if (service.is_leaving()) continue;
    names += (names.empty() ? "" : ", ") + service.config().name;
  }
  return names;
}

std::string names_of(const std::vector<BackendLoop>& backends) {
  std::string names;
  for (const BackendLoop& backend : backends) {
    names += (names.empty() ? "" : ", ") + backend.config.name;
  }
  return names;
}

BackendLoop* find_backend(ServiceLoop& service, const std::string& name) {
  const auto found = std::ranges::find_if(
      service.backends(), [&](const BackendLoop& backend) { return backend.config.name == name; });
  return found == service.backends().end() ? nullptr : &*found;
}

// What is above 0 stays so.
std::uint32_t hand_q16_of(double percent) {
  if (percent <= 0) return 0;
  return std::max<std::uint32_t>(
      1, static_cast<std::uint32_t>(std::lround(percent / 100 * kWholeWeight)));
}

std::string described(const Override& it) {
  std::string text(to_string(it.kind));
  text += " " + it.service + (it.backend.empty() ? "" : " " + it.backend);
  if (it.kind == OverrideKind::kWeight) text += " " + fmt::format("{:g}", it.percent) + " %";
  return text;
}

std::string by_whom(const Override& it) {
  std::string text = "(by " + (it.by.empty() ? "?" : it.by) + ", uid " + std::to_string(it.uid);
  if (!it.reason.empty()) text += ": " + it.reason;
  return text + ")";
}

}  // namespace

Result<Override> override_of(const ApiRequest& request, OverrideKind kind) {
  Override it;
  it.kind = kind;
  it.service = asked(request, "service");
  it.backend = asked(request, "backend");
  it.reason = printable(asked(request, "reason"));
  it.by = printable(asked(request, "by").substr(0, kLongestBy));
  it.uid = request.peer_uid;
  it.since_ns = realtime_ns();
  if (it.reason.size() > kLongestReason) {
    return Error(ExitCode::kUsage, "reason: expected at most " + std::to_string(kLongestReason) +
                                       " bytes, found " + std::to_string(it.reason.size()));
  }
  if (!asked(request, "for_s").empty()) {
    const auto for_s =
        number(request, "for_s", 1, kLongestForS, "a number of seconds from 1 to 2592000 (30 days)");
    if (!for_s) return for_s.error();
    it.until_ns = it.since_ns + static_cast<std::int64_t>(*for_s * 1e9);
  }
  if (kind == OverrideKind::kWeight) {
    const auto percent =
        number(request, "percent", 0, 100, "a percentage of the configured weight from 0 to 100");
    if (!percent) return percent.error();
    it.percent = *percent;
  }
  return it;
}

std::string Agent::overrides_path() const { return config_.agent.state_dir + "/overrides.json"; }

// Of a name; what nothing can be ordered of is an error.
Result<ServiceLoop*> Agent::service_to_order(const std::string& name) {
  const auto found = std::ranges::find_if(services_, [&](const ServiceLoop& service) {
    return !service.is_leaving() && service.config().name == name;
  });
  if (found == services_.end()) {
    return Error(ExitCode::kUsage,
                 "no service is called '" + name + "': there are " + names_of(services_));
  }
  if (!found->config().is_balanced()) {
    return Error(ExitCode::kUsage, name + " is seen by sockets only: it has no weights");
  }
  return &*found;
}

Result<BackendLoop*> Agent::backend_to_order(ServiceLoop& service, const std::string& name) {
  BackendLoop* backend = find_backend(service, name);
  if (backend == nullptr) {
    return Error(ExitCode::kUsage, "no backend of " + service.config().name + " is called '" +
                                       name + "': there are " + names_of(service.backends()));
  }
  if (backend->leaving) {
    return Error(ExitCode::kUsage, name + " is no longer in the configuration: it drains");
  }
  return backend;
}

// Somebody must be left to take new flows.
Result<void> Agent::set_hand(ServiceLoop& service, BackendLoop& backend, double percent) {
  const bool others = std::ranges::any_of(service.backends(), [&](const BackendLoop& other) {
    return &other != &backend && !other.drains() && other.hand_q16 > 0;
  });
  if (percent <= 0 && !others) {
    return Error(ExitCode::kUsage, "no backend of " + service.config().name +
                                       " would take new flows: nothing is changed");
  }
  service.set_hand(backend, hand_q16_of(percent));
  backend.changed_ns = monotonic_ns();
  return {};
}

asio::awaitable<ApiReply> Agent::answer_override(ApiRequest request, OverrideKind kind) {
  auto wanted = override_of(request, kind);
  if (!wanted) co_return refused(400, wanted.error());
  Override it = std::move(*wanted);
  auto service = service_to_order(it.service);
  if (!service) co_return refused(404, service.error());
  json::array warnings;
  if (kind == OverrideKind::kWeight) {
    auto backend = backend_to_order(**service, it.backend);
    if (!backend) co_return refused(404, backend.error());
    if (auto set = set_hand(**service, **backend, it.percent); !set) {
      co_return refused(409, set.error());
    }
    if ((*backend)->drains()) warnings.push_back(json::string(it.backend + " drains: it has no share"));
  } else {
    it.backend.clear();
    (*service)->set_order(kind == OverrideKind::kFreeze ? ServiceOrder::kFreeze
                                                        : ServiceOrder::kNeutral);
    for (const BackendLoop& backend : (*service)->backends()) {
      if (kind == OverrideKind::kFreeze) it.frozen_q16[backend.config.name] = backend.frozen_q16;
    }
    if ((*service)->config().mode != ServiceMode::kAct) {
      warnings.push_back(json::string(it.service + " is in mode " +
                                      std::string(to_string((*service)->config().mode)) +
                                      ": its weights are the configured ones in any case"));
    }
  }
  spdlog::info("override: {} {}", described(it), by_whom(it));
  log_override(it, "ordered", by_whom(it));
  overrides_.put(it);
  publish_orders(**service);
  if (failure_) co_return refused(500, *failure_);
  if (auto kept = co_await keep_overrides(); !kept) {
    warnings.push_back(json::string("in force, but not over a restart: " + kept.error().message()));
  }
  co_return replied({{"schema", "petrel/override/v1"},
                     {"override", override_json(it, realtime_ns())},
                     {"warnings", std::move(warnings)}});
}

asio::awaitable<ApiReply> Agent::answer_release(ApiRequest request) {
  const auto asked_by = override_of(request, OverrideKind::kFreeze);
  if (!asked_by) co_return refused(400, asked_by.error());
  auto service = service_to_order(asked_by->service);
  if (!service) co_return refused(404, service.error());
  const std::string& backend = asked_by->backend;
  if (!backend.empty()) {
    if (auto found = backend_to_order(**service, backend); !found) {
      co_return refused(404, found.error());
    }
  }
  const std::vector<Override> released = overrides_.release(asked_by->service, backend);
  const bool lifted = backend.empty() && release_self_check(**service, by_whom(*asked_by));
  if (released.empty() && !lifted) {
    co_return usage(409, "nothing is overridden of " + (backend.empty() ? "" : backend + " of ") +
                             asked_by->service);
  }
  json::array list, warnings;
  for (const Override& it : released) {
    spdlog::info("override released: {} {}", described(it), by_whom(*asked_by));
    log_override(it, "released", by_whom(*asked_by));
    list.push_back(override_json(it, realtime_ns()));
    end_override(it);
  }
  publish_orders(**service);
  if (failure_) co_return refused(500, *failure_);
  if (auto kept = co_await keep_overrides(); !kept) {
    warnings.push_back(
        json::string("released, but back after a restart: " + kept.error().message()));
  }
  co_return replied({{"schema", "petrel/release/v1"},
                     {"released", std::move(list)},
                     {"self_check_lifted", lifted},
                     {"warnings", std::move(warnings)}});
}

// Of the loop; then publish_orders().
void Agent::end_override(const Override& it) {
  for (ServiceLoop& service : services_) {
    if (service.config().name != it.service || service.is_leaving()) continue;
    if (it.is_of_service()) service.set_order(ServiceOrder::kNone);
    BackendLoop* backend = find_backend(service, it.backend);
    if (backend == nullptr) continue;
    backend->changed_ns = monotonic_ns();
    if (it.kind == OverrideKind::kWeight) service.set_hand(*backend, kWholeWeight);
    if (it.kind == OverrideKind::kDrain && !backend->leaving) service.set_drain(*backend, 0);
  }
}

// An order has changed: rings, weights, and what captures know.
void Agent::publish_orders(ServiceLoop& service) {
  service.settle();
  ask_checkpoints();
  write_decisions(service, {});
  tables_->write_rings(service.config().id, service.neutral(), service.in_force());
  next_count_ns_ = 0;
  count_connections(monotonic_ns());
}

// Each tick. The file is written beside it.
void Agent::expire_overrides() {
  if (overrides_.list().empty()) return;
  const std::vector<Override> over = overrides_.expire(realtime_ns());
  if (over.empty()) return;
  for (const Override& it : over) {
    spdlog::info("override is over: {} {}", described(it), by_whom(it));
    log_override(it, "over", by_whom(it));
    end_override(it);
    for (ServiceLoop& service : services_) {
      if (service.config().name == it.service && !service.is_leaving()) publish_orders(service);
    }
  }
  spawn(keep_overrides_or_say(), "overrides");
}

asio::awaitable<Result<void>> Agent::keep_overrides() {
  const std::string path = overrides_path();
  const std::string text = overrides_.text();
  // By reference: both wait here, too.
  auto kept = co_await run_beside(loader_, [&to = path, &what = text] {
    return write_file_whole(to, what);
  });
  if (!kept) co_return kept.error().within("keep the overrides");
  co_return Result<void>{};
}

asio::awaitable<void> Agent::keep_overrides_or_say() {
  if (auto kept = co_await keep_overrides(); !kept) spdlog::warn("{}", kept.error().message());
}

// Of a service that is being built, before it takes over what was in force.
void Agent::apply_overrides(ServiceLoop& service) {
  service.set_order(ServiceOrder::kNone);
  for (BackendLoop& backend : service.backends()) service.set_hand(backend, kWholeWeight);
  for (const Override& it : overrides_.list()) {
    if (it.service != service.config().name || service.is_leaving()) continue;
    if (it.is_of_service()) {
      const bool freezes = it.kind == OverrideKind::kFreeze;
      service.set_order(freezes ? ServiceOrder::kFreeze : ServiceOrder::kNeutral);
      for (BackendLoop& backend : service.backends()) {
        const auto frozen = it.frozen_q16.find(backend.config.name);
        backend.frozen_q16 = frozen == it.frozen_q16.end() ? kWholeWeight : frozen->second;
      }
      continue;
    }
    BackendLoop* backend = find_backend(service, it.backend);
    if (backend == nullptr || it.kind != OverrideKind::kWeight) continue;
    service.set_hand(*backend, hand_q16_of(it.percent));
  }
}

// Whose service or backend the configuration has no longer: an order must not wait for another one
// of that name.
bool Agent::drop_overrides_of_nobody() {
  std::vector<Override> nobodys;
  for (const Override& it : overrides_.list()) {
    const auto service = std::ranges::find_if(services_, [&](const ServiceLoop& candidate) {
      return !candidate.is_leaving() && candidate.config().name == it.service;
    });
    const BackendLoop* backend = service == services_.end() || it.is_of_service()
                                     ? nullptr
                                     : find_backend(*service, it.backend);
    const bool known = service != services_.end() &&
                       (it.is_of_service() || (backend != nullptr && !backend->leaving));
    if (!known) nobodys.push_back(it);
  }
  for (const Override& it : nobodys) {
    spdlog::warn("override dropped, the configuration has no such one: {} {}", described(it),
                 by_whom(it));
    overrides_.release(it.service, it.backend, it.kind);
  }
  return !nobodys.empty();
}

// At a start: what earlier agents were told, less what is over by now.
void Agent::resume_overrides() {
  const std::int64_t now_ns = realtime_ns();
  for (const Override& it : overrides_.expire(now_ns)) {
    spdlog::info("override is over: {} {}", described(it), by_whom(it));
    end_override(it);
  }
  drop_overrides_of_nobody();
  for (const Override& it : overrides_.list()) {
    spdlog::warn("override goes on: {} {}", described(it), by_whom(it));
    if (it.kind != OverrideKind::kDrain) continue;
    for (ServiceLoop& service : services_) {
      if (service.config().name != it.service) continue;
      BackendLoop* backend = find_backend(service, it.backend);
      if (backend == nullptr || backend->drains()) continue;
      // The host was restarted, or petrel detached: no flow of that time is left.
      const std::int64_t left_ns = std::max<std::int64_t>(0, it.drained_ns - now_ns);
      service.set_drain(*backend, monotonic_ns() + static_cast<std::uint64_t>(left_ns));
    }
  }
  for (ServiceLoop& service : services_) service.settle();
}

}  // namespace petrel
