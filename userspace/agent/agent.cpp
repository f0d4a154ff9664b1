// SPDX-License-Identifier: MIT
// The agent's life: start, the coroutines that run beside the tick, and the stop.
#include "agent/agent.hpp"

#include <bpf/bpf.h>
#include <spdlog/spdlog.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <csignal>
#include <cstring>
#include <random>

#include "agent/capture_stream.hpp"
#include "agent/prober.hpp"
#include "agent/report.hpp"
#include "base/clock.hpp"

namespace petrel {
namespace asio = boost::asio;
namespace {

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);

// An unanswered SYN is given up by the sweep when it would leave its waiting slot's span.
constexpr std::uint64_t kHandshakeExpiryNs =
    (std::uint64_t{WAITING_YOUNG_SLOTS} << WAITING_SLOT_SHIFT) - 500'000'000;

// Scores everything alike, so that no weight moves.
Result<Model> untrained_model() {
  Model model;
  model.name = "untrained";
  model.version = 0;
  model.bias = -12;
  if (auto quantized = quantize(model); !quantized) return quantized.error();
  return model;
}

// A backend in whose risk or weight anything is amiss is probed.
bool is_suspicious(const BackendLoop& backend) {
  return backend.decision.factor < 0.5 || backend.reading.risk > 0.3;
}

}  // namespace

Agent::Agent(asio::io_context& context, Config config, AgentOptions options, Model model,
             DataPath path)
    : context_(context),
      config_(std::move(config)),
      options_(options),
      model_(std::move(model)),
      path_(std::move(path)),
      signals_(context, SIGTERM, SIGINT),
      tick_timer_(context),
      probe_timer_(context),
      sweep_timer_(context),
      route_events_(context) {}

Agent::~Agent() {
  // The descriptor is libnl's: NextHops closes it.
  if (route_events_.is_open()) route_events_.release();
}

Result<std::unique_ptr<Agent>> Agent::start(asio::io_context& context, Config config,
                                            AgentOptions options) {
  auto model = options.untrained ? untrained_model() : load_model(config.agent.model);
  if (!model) return model.error();
  for (const ServiceConfig& service : config.services) {
    if (!options.untrained || service.mode != ServiceMode::kAct) continue;
    return Error(ExitCode::kUsage, "service " + service.name +
                                       ": mode act needs a model: use --mode neutral without one");
  }

  // The API's lock comes first: two agents must not both touch the pins.
  auto self = std::make_shared<Agent*>(nullptr);
  auto api = ApiServer::open(context.get_executor(), config.agent.socket,
                             [self](const ApiRequest& request) { return (*self)->answer(request); });
  if (!api) return api.error();
  auto path = DataPath::load(config, map_sizes(config));
  if (!path) return path.error();
  const bool adopted = path->adopted();

  std::unique_ptr<Agent> agent(
      new Agent(context, std::move(config), options, std::move(*model), std::move(*path)));
  *self = agent.get();
  agent->api_ = std::move(*api);
  if (auto ready = agent->prepare(); !ready) {
    if (!adopted) agent->path_.remove();
    return ready.error();
  }
  return agent;
}

Result<void> Agent::prepare() {
  const MapSizes sizes = map_sizes(config_);
  auto tables = Tables::open(path_, config_);
  if (!tables) return tables.error();
  tables_.emplace(std::move(*tables));
  auto hops = NextHops::open();
  if (!hops) return hops.error();
  hops_.emplace(std::move(*hops));
  backend_reader_.emplace(backend_stats_reader(path_.map_fd("backend_stats"), sizes.backends));
  service_reader_.emplace(service_stats_reader(path_.map_fd("service_stats"), sizes.services));
  verdict_reader_.emplace(verdict_reader(path_.map_fd("verdicts")));
  auto events = EventReader::open(path_.map_fd("events"),
                                  [this](const bpf::event& event) { on_event(event); });
  if (!events) return events.error();
  events_.emplace(std::move(*events));

  for (const ServiceConfig& service : config_.services) {
    services_.emplace_back(service, config_.control);
  }
  if (path_.adopted()) {
    if (auto adopted = adopt_state(); !adopted) return adopted.error();
  }
  tables_->beat(monotonic_ns());
  for (ServiceLoop& service : services_) write_decisions(service, {});
  resolve_hops(true);
  for (ServiceLoop& service : services_) {
    const auto written =
        tables_->write_service(service.config(), service.neutral(), service.in_force());
    if (!written) return written.error();
  }
  if (failure_) return *failure_;
  return path_.attach(config_.agent);
}

Result<void> Agent::adopt_state() {
  if (auto forgotten = tables_->forget_others(config_); !forgotten) return forgotten.error();
  auto weights = tables_->read_weights(map_sizes(config_).backends);
  if (!weights) return weights.error();
  for (ServiceLoop& service : services_) {
    service.adopt(tables_->read_ring(service.config()), *weights);
  }
  spdlog::info("took over the maps of an earlier agent under {}", config_.agent.pin_path);
  return {};
}

void Agent::write_backend(const ServiceLoop& service, const BackendLoop& backend) {
  const auto state = backend.quarantined ? bpf::BACKEND_QUARANTINED : bpf::BACKEND_UP;
  const auto written =
      tables_->write_backend(service.config(), backend.config, state, backend.hop);
  if (!written) failure_ = written.error();
}

void Agent::resolve_hops(bool force_write) {
  if (auto fresh = hops_->refresh(); !fresh) {
    spdlog::warn("{}: next hops stay as they were", fresh.error().message());
    return;
  }
  for (ServiceLoop& service : services_) {
    for (BackendLoop& backend : service.backends()) {
      const bpf::next_hop hop = hops_->resolve(backend.config.address).value_or(bpf::next_hop{});
      const bool same = std::memcmp(&hop, &backend.hop, sizeof(hop)) == 0;
      if (same && !force_write) continue;
      backend.hop = hop;
      write_backend(service, backend);
    }
  }
  tables_->bump_route_generation();
}

ApiReply Agent::answer(const ApiRequest& request) {
  const auto reply = [](unsigned status, const boost::json::value& value) {
    return ApiReply{status, "application/json", boost::json::serialize(value), nullptr};
  };
  const auto error = [&](unsigned status, const std::string& text) {
    return reply(status, boost::json::object{{"error", text}});
  };
  if (request.path == "/v1/status") return reply(200, status_json(*this));
  if (request.path == "/v1/capture") return open_capture(request);
  if (request.path != "/v1/explain") return error(404, "no such path: " + request.path);

  const auto named = request.query.find("backend");
  if (named == request.query.end()) return error(400, "explain: expected ?backend=NAME");
  const auto in_service = request.query.find("service");
  for (const ServiceLoop& service : services_) {
    if (in_service != request.query.end() && in_service->second != service.config().name) continue;
    for (const BackendLoop& backend : service.backends()) {
      if (backend.config.name != named->second) continue;
      return reply(200, explain_json(*this, service, backend));
    }
  }
  return error(404, "no backend is called " + named->second);
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
  signals_.async_wait([this](const boost::system::error_code& error, int signal) {
    if (error) return;
    spdlog::info("{}: stopping", strsignal(signal));
    stop();
  });
  spawn(tick_loop(), "tick");
  spawn(follow_routes(), "routes");
  spawn(probe_loop(), "probes");
  spawn(sweep_loop(), "sweep");
  spawn(api_->serve(), "API");
  context_.run();
  if (options_.keep) {
    spdlog::info("data path left running: pins under {}", config_.agent.pin_path);
  } else {
    path_.remove();
  }
  if (failure_) return *failure_;
  return {};
}

void Agent::stop() {
  if (stopping_) return;
  stopping_ = true;
  boost::system::error_code ignored;
  signals_.cancel(ignored);
  tick_timer_.cancel();
  probe_timer_.cancel();
  sweep_timer_.cancel();
  route_events_.cancel(ignored);
  for (const auto& capture : captures_) capture->stream->finish();
  api_->stop();
  // What is left are API connections that wait for their peers: they have had their answers.
  asio::post(context_, [this] { context_.stop(); });
}

asio::awaitable<void> Agent::tick_loop() {
  const std::chrono::nanoseconds period = config_.agent.tick;
  auto due = std::chrono::steady_clock::now();
  std::uint64_t last_ns = monotonic_ns();
  while (!stopping_) {
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
        if (!is_suspicious(backend)) {
          backend.probe = ProbeResult::kUnknown;
          continue;
        }
        asio::co_spawn(context_, probe_backend(backend.config.address, backend.config.port),
                       [&backend](const std::exception_ptr& failure, ProbeResult result) {
                         backend.probe = failure ? ProbeResult::kUnknown : result;
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
    const auto swept = for_each_connection(
        path_.map_fd("connections"),
        [&](const bpf::connection_key& key, const bpf::connection& connection) {
          if ((connection.flags & bpf::CONNECTION_WAITING_SYN) == 0) return;
          if (now_ns - connection.syn_ns > kHandshakeExpiryNs) expire(key, connection);
        });
    if (!swept) failure_ = swept.error().within("sweep");
  }
}

// A client that gives up connecting sends nothing: only the clock ends such an entry.
void Agent::expire(const bpf::connection_key& key, const bpf::connection& connection) {
  if (bpf_map_delete_elem(path_.map_fd("connections"), &key) != 0) return;  // it has gone by itself
  ++facts_.expired_handshakes;
  tables_->give_back_inflight(connection.backend_id);
  const std::uint32_t service_index = key.service_id - 1u;
  if (service_index >= services_.size()) return;
  if (BackendLoop* backend = services_[service_index].find(connection.backend_id)) {
    backend->waiting_syn.give_back(connection.syn_ns);
  }
}

}  // namespace petrel
