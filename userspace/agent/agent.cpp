// SPDX-License-Identifier: MIT
// The agent's life: start, the coroutines that run beside the tick, and the stop.
#include "agent/agent.hpp"

#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <algorithm>
#include <csignal>
#include <cstring>
#include <random>

#include "agent/capture_stream.hpp"
#include "agent/prober.hpp"
#include "agent/serving_model.hpp"
#include "base/clock.hpp"
#include "maps/half_open_age.hpp"

namespace petrel {
namespace asio = boost::asio;
namespace {

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);

// A backend in whose risk or weight anything is amiss is probed.
bool is_suspicious(const BackendLoop& backend) {
  if (backend.drains()) return false;
  return backend.decision.factor < 0.5 || backend.reading.risk > 0.3;
}

// By TCP connect, to the one port that it serves; where it could be steered for what is found.
bool can_be_probed(const ServiceLoop& service, const BackendLoop& backend) {
  const ServiceConfig& config = service.config();
  return config.is_balanced() && config.protocol == IPPROTO_TCP && backend.config.port != 0;
}

}  // namespace

Agent::Agent(asio::io_context& context, Config config, AgentOptions options,
             ServingModel serving, DataPath path)
    : context_(context),
      config_(std::move(config)),
      options_(std::move(options)),
      loop_(serving.model),
      life_(std::make_unique<ModelLife>(config_.model_watch, config_.agent.retry_window,
                                        !options_.untrained)),
      path_(std::move(path)),
      signals_(context, SIGTERM, SIGINT, SIGHUP),
      tick_timer_(context),
      probe_timer_(context),
      sweep_timer_(context),
      audit_timer_(context),
      route_events_(context) {
  log_ = std::make_unique<DecisionLog>(config_.agent.state_dir, config_.log);
  follow_model_text();
  life_->begin(std::move(serving.model), std::move(serving.source), std::move(serving.previous));
}

Agent::~Agent() {
  // The descriptor is libnl's: NextHops closes it.
  if (route_events_.is_open()) route_events_.release();
}

Result<std::unique_ptr<Agent>> Agent::start(asio::io_context& context, Config config,
                                            AgentOptions options) {
  auto serving = model_for(config, options, true);
  if (!serving) return serving.error();
  auto shadow = shadow_for(config, serving->model);
  if (!shadow) return shadow.error();
  if (auto mask = make_mask(config.agent.client_privacy, config.agent.client_privacy_key_file);
      !mask) {
    return mask.error();
  }

  // The API's lock comes first: two agents must not both touch the pins.
  auto self = std::make_shared<Agent*>(nullptr);
  auto api =
      ApiServer::open(context.get_executor(), config.agent.socket, [self](ApiRequest request) {
        return (*self)->answer(std::move(request));
      });
  if (!api) return api.error();
  auto pinned = read_pinned_state(config.agent.pin_path);
  if (!pinned) return pinned.error();
  auto layout = plan_layout(std::move(config), *pinned);
  if (!layout) return layout.error();
  auto path = DataPath::load(layout->config, layout->sizes);
  if (!path) return path.error();
  const bool adopted = path->adopted();
  for (const std::string& line : serving->warnings) spdlog::warn("model: {}", line);

  std::unique_ptr<Agent> agent(new Agent(context, layout->config, std::move(options),
                                         std::move(*serving), std::move(*path)));
  *self = agent.get();
  agent->shadow_configured_ = *shadow;
  agent->life_->set_shadow(std::move(*shadow));
  agent->api_ = std::move(*api);
  if (auto ready = agent->prepare(*layout, *pinned); !ready) {
    if (!adopted) agent->path_.remove();
    return ready.error();
  }
  return agent;
}

// What an earlier agent left is taken over first, as it is, and changed then: its program must not
// read what the new maps hold.
Result<void> Agent::prepare(const Layout& layout, const PinnedState& pinned) {
  auto hops = NextHops::open();
  if (!hops) return hops.error();
  hops_.emplace(std::move(*hops));
  adopted_ = path_.adopted();
  if (adopted_) {
    if (auto attached = path_.attach_xdp(config_.agent); !attached) return attached;
    spdlog::info("took over the maps of an earlier agent under {}", config_.agent.pin_path);
  }
  for (const std::string& line : path_.warnings()) spdlog::warn("{}", line);
  if (auto opened = open_maps(layout.sizes); !opened) return opened;
  auto overrides = read_overrides(overrides_path(), 0);
  if (overrides) {
    overrides_ = std::move(*overrides);
  } else {
    spdlog::warn("{}: no order of before is in force", overrides.error().message());
  }
  build_services(layout, pinned);
  resume_overrides();
  resume_harms();
  if (auto written = write_tables(); !written) return written;
  if (!adopted_) {
    if (auto attached = path_.attach_xdp(config_.agent); !attached) return attached;
  }
  return attach_sensor();
}

// Beside the balancer it is a help; where sockets alone tell of a service nothing goes without it.
Result<void> Agent::attach_sensor() {
  if (!config_.agent.socket_sensor) return {};
  const bool attached = path_.attach_sensor(config_.agent, config_.has_sockets());
  sensor_since_ns_ = monotonic_ns();
  if (attached || !config_.has_sockets()) return {};
  const auto& why = path_.degraded();
  return Error(ExitCode::kMissing, why.empty() ? "socket sensor: not attached" : why.back());
}

void Agent::write_backend(const ServiceLoop& service, const BackendLoop& backend) {
  const auto written = tables_->write_backend(service.config(), backend.config, backend.state,
                                              backend.hop, backend.mtu_bytes);
  if (!written) failure_ = written.error();
}

void Agent::resolve_hops(bool force_write) {
  if (auto fresh = hops_->refresh(); !fresh) {
    spdlog::warn("{}: next hops stay as they were", fresh.error().message());
    return;
  }
  for (ServiceLoop& service : services_) {
    for (BackendLoop& backend : service.backends()) {
      const ResolvedHop found =
          hops_->resolve(backend.config.address).value_or(ResolvedHop{bpf::next_hop{}, 0});
      const bool same = std::memcmp(&found.hop, &backend.hop, sizeof(found.hop)) == 0 &&
                        found.mtu_bytes == backend.mtu_bytes;
      if (same && !force_write) continue;
      backend.hop = found.hop;
      backend.mtu_bytes = found.mtu_bytes;
      write_backend(service, backend);
    }
  }
  if (auto synced = routes_->sync(); !synced) {
    spdlog::warn("{}: some ways to clients are asked of the kernel", synced.error().message());
  }
  tables_->bump_route_generation();
}

// --- running ------------------------------------------------------------------------------------

void Agent::spawn(asio::awaitable<void> coroutine, const char* what) {
  asio::co_spawn(context_, std::move(coroutine), [this, what](const std::exception_ptr& failure) {
    if (!failure) return;
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& thrown) {
      failure_ = Error(ExitCode::kRuntime, std::string(what) + ": " + thrown.what());
    }
    stop();
  });
}

Result<void> Agent::run() {
  facts_.started_ns = monotonic_ns();
  route_events_.assign(hops_->changed_fd());
  await_signal();
  spawn(tick_loop(), "tick");
  spawn(follow_routes(), "routes");
  spawn(probe_loop(), "probes");
  spawn(sweep_loop(), "sweep");
  spawn(audit_loop(), "audit");
  spawn(api_->serve(), "API");
  context_.run();
  loader_.join();
  tables_->set_recording(false);
  path_.stop_tap();
  if (options_.keep) {
    spdlog::info("data path left running: pins under {}", config_.agent.pin_path);
  } else {
    path_.remove();
  }
  if (failure_) return *failure_;
  return {};
}

void Agent::await_signal() {
  signals_.async_wait([this](const boost::system::error_code& error, int signal) {
    if (error) return;
    if (signal == SIGHUP) {
      spawn(reload_on_signal(), "reload");
      await_signal();
      return;
    }
    spdlog::info("{}: stopping", strsignal(signal));
    stop();
  });
}

void Agent::stop() {
  if (stopping_) return;
  stopping_ = true;
  boost::system::error_code ignored;
  signals_.cancel(ignored);
  tick_timer_.cancel();
  probe_timer_.cancel();
  sweep_timer_.cancel();
  audit_timer_.cancel();
  route_events_.cancel(ignored);
  for (const auto& capture : captures_) capture->stream()->finish();
  end_tap();
  api_->stop();
  // What is left are API connections that wait for their peers: they have had their answers.
  asio::post(context_, [this] { context_.stop(); });
}

asio::awaitable<void> Agent::tick_loop() {
  auto due = std::chrono::steady_clock::now();
  std::uint64_t last_ns = monotonic_ns();
  while (!stopping_) {
    const std::chrono::nanoseconds period = config_.agent.tick;
    due += period;
    tick_timer_.expires_at(due);
    auto [error] = co_await tick_timer_.async_wait(kAsTuple);
    if (error) co_return;
    const std::uint64_t now_ns = monotonic_ns();
    const auto begun = std::chrono::steady_clock::now();
    if (begun - due > period / 2) ++facts_.late_ticks;
    if (begun - due > period) due = begun;  // a stall is not made up for by a burst of ticks
    auto done = tick(now_ns, std::chrono::nanoseconds(now_ns - last_ns));
    last_ns = now_ns;
    if (!done) failure_ = done.error().within("tick");
    if (failure_) {
      stop();
      co_return;
    }
    ++facts_.ticks;
    facts_.last_tick_us = (monotonic_ns() - now_ns) / 1000;
    facts_.all_ticks_us += facts_.last_tick_us;
    facts_.worst_tick_us = std::max(facts_.worst_tick_us, facts_.last_tick_us);
  }
}

asio::awaitable<void> Agent::follow_routes() {
  while (!stopping_) {
    auto [error] = co_await route_events_.async_wait(
        asio::posix::stream_descriptor::wait_read, kAsTuple);
    if (error) co_return;
    if (hops_->drain_changes()) resolve_hops(false);
  }
}

asio::awaitable<void> Agent::probe_loop() {
  std::minstd_rand random{std::random_device{}()};
  std::uniform_int_distribution<int> jitter_ms(800, 1200);
  while (!stopping_) {
    probe_timer_.expires_after(std::chrono::milliseconds(jitter_ms(random)));
    auto [error] = co_await probe_timer_.async_wait(kAsTuple);
    if (error) co_return;
    for (ServiceLoop& service : services_) {
      for (BackendLoop& backend : service.backends()) {
        if (!is_suspicious(backend) || !can_be_probed(service, backend)) {
          backend.probe = ProbeResult::kUnknown;
          continue;
        }
        // By their ids: a reload may come before the answer.
        asio::co_spawn(context_,
                       probe_backend({backend.config.address, backend.config.port,
                                      service.config().probe_path}),
                       [this, service_id = service.config().id, backend_id = backend.config.id](
                           const std::exception_ptr& failure, ProbeResult result) {
                         ServiceLoop* asked = find_service(service_id);
                         BackendLoop* of = asked == nullptr ? nullptr : asked->find(backend_id);
                         if (of != nullptr) of->probe = failure ? ProbeResult::kUnknown : result;
                       });
      }
    }
  }
}

asio::awaitable<void> Agent::sweep_loop() {
  while (!stopping_) {
    sweep_timer_.expires_after(std::chrono::seconds(1));
    auto [error] = co_await sweep_timer_.async_wait(kAsTuple);
    if (error) co_return;
    const std::uint64_t now_ns = monotonic_ns();
    tables_->sweep_half_open(
        [&](const bpf::half_open& flow) {
          return is_gone(flow, now_ns) || is_overdue(flow, now_ns);
        },
        [&](const bpf::half_open& flow) { expire(flow); });
    count_connections(now_ns);
  }
}

// A client that gives up connecting sends nothing: only the clock ends such an entry.
void Agent::expire(const bpf::half_open& flow) {
  ++facts_.expired_handshakes;
  record_expired(flow);
  ServiceLoop* service = find_service(flow.key.service_id);
  if (service == nullptr) return;
  if (BackendLoop* backend = service->find(flow.backend_id)) {
    backend->waiting_syn.give_back(flow.sent_ns);
  }
}

}  // namespace petrel
