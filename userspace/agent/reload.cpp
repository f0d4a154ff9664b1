// SPDX-License-Identifier: MIT
// Putting a configuration in force, at a start and while running.
//
// First the maps that are too small hand over to larger ones of the same content, programs included:
// that changes nothing else and can be undone. Then the tables change in place: backends, rings in
// space that nothing uses, and each service in one step.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/agent.hpp"
#include "agent/changes.hpp"
#include "agent/offload.hpp"
#include "agent/serving_model.hpp"
#include "base/clock.hpp"
#include "config/address.hpp"

namespace petrel {
namespace asio = boost::asio;
namespace {

const ServiceLoop* find_loop(const std::vector<ServiceLoop>& loops, std::uint32_t service_id) {
  const auto found = std::ranges::find_if(
      loops, [&](const ServiceLoop& loop) { return loop.config().id == service_id; });
  return found == loops.end() ? nullptr : &*found;
}

const BackendLoop* find_backend(const ServiceLoop* loop, std::uint32_t backend_id) {
  if (loop == nullptr) return nullptr;
  const auto found =
      std::ranges::find_if(loop->backends(), [&](const BackendLoop& backend) {
        return backend.config.id == backend_id;
      });
  return found == loop->backends().end() ? nullptr : &*found;
}

// What is known of a backend's drain from before.
struct EarlierDrain {
  std::uint64_t drained_ns = 0;
  bool leaving = false;
  bool configured = false;  // by the file, not by `petrel drain`
};

EarlierDrain earlier_drain(const BackendLoop* had, const PinnedBackend* pinned) {
  if (had != nullptr) return {had->drained_ns, had->leaving, had->config.drain};
  if (pinned != nullptr) return {pinned->weight.drained_ns, pinned->leaving(), false};
  return {};
}

// When the backend's flows are reset or moved; 0: it does not drain.
std::uint64_t drain_of(const BackendLoop& backend, const EarlierDrain& earlier,
                       std::uint64_t deadline_ns) {
  if (backend.leaving) return earlier.drained_ns != 0 ? earlier.drained_ns : deadline_ns;
  if (backend.config.drain) {
    return earlier.drained_ns != 0 && !earlier.leaving ? earlier.drained_ns : deadline_ns;
  }
  return earlier.leaving || earlier.configured ? 0 : earlier.drained_ns;
}

std::uint64_t ns(std::chrono::nanoseconds duration) {
  return static_cast<std::uint64_t>(duration.count());
}

}  // namespace

// --- a reload -----------------------------------------------------------------------------------

asio::awaitable<void> Agent::reload_on_signal() {
  co_await reload();  // which logs how it went
}

asio::awaitable<Result<ReloadReport>> Agent::reload() {
  if (replacing_) {
    co_return Error(ExitCode::kConflict, "another reload, or a tap, is just beginning: try again");
  }
  replacing_ = true;
  auto done = co_await reload_once();
  replacing_ = false;
  if (done) {
    ++facts_.reloads;
    for (const std::string& line : done->changes) spdlog::info("reload: {}", line);
    for (const std::string& line : done->warnings) spdlog::warn("reload: {}", line);
    if (done->changes.empty()) spdlog::info("reload: nothing changed");
  } else {
    spdlog::error("reload: {}", done.error().message());
  }
  co_return done;
}

// The file as it is now; what only a start can change stays as it is.
Result<Config> Agent::read_again(std::vector<std::string>& warnings) const {
  auto read = load_config(options_.config_path);
  if (!read) return read.error().error();
  Config config = std::move(*read);
  if (options_.mode) config.set_mode(*options_.mode);
  const auto keep = [&](auto AgentConfig::*field, const char* name, const char* when) {
    if (config.agent.*field == config_.agent.*field) return;
    config.agent.*field = config_.agent.*field;
    warnings.push_back(std::string("agent.") + name + " takes effect " + when);
  };
  const char* next_start = "at the next start";
  const char* detached = "at a start after `petrel detach`";
  keep(&AgentConfig::pin_path, "pin_path", next_start);
  keep(&AgentConfig::socket, "socket", next_start);
  keep(&AgentConfig::xdp_mode, "xdp_mode", detached);
  keep(&AgentConfig::max_connections, "max_connections", detached);
  keep(&AgentConfig::max_half_open, "max_half_open", detached);
  keep(&AgentConfig::max_clients, "max_clients", detached);
  return config;
}

asio::awaitable<Result<ReloadReport>> Agent::reload_once() {
  ReloadReport report;
  auto config = read_again(report.warnings);
  if (!config) co_return config.error();
  auto serving = model_for(*config, options_, false);
  if (!serving) co_return serving.error();
  auto shadow = shadow_for(*config, serving->model);
  if (!shadow) co_return shadow.error();
  if (auto mask = make_mask(config->agent.client_privacy, config->agent.client_privacy_key_file);
      !mask) {
    co_return mask.error();
  }

  auto pinned = read_pinned_state(config_.agent.pin_path);
  if (!pinned) co_return pinned.error();
  auto layout = plan_layout(*config, *pinned);
  if (!layout) co_return layout.error();
  std::optional<DataPath> next;
  if (!path_.suits(layout->config, layout->sizes)) {
    // By reference: the layout waits here, too.
    auto loaded = co_await run_beside(
        loader_, [&of = *layout] { return DataPath::load(of.config, of.sizes); });
    if (!loaded) co_return loaded.error();
    if (stopping_) co_return Error(ExitCode::kUnreachable, "the agent is stopping");
    next.emplace(std::move(*loaded));
    // Ids may have become free meanwhile: never has one been given away.
    pinned = read_pinned_state(config_.agent.pin_path);
    if (!pinned) co_return pinned.error();
    layout = plan_layout(*config, *pinned);
    if (!layout) co_return layout.error();
  }

  const bool other_interfaces = layout->config.agent.interfaces != config_.agent.interfaces;
  if (next || other_interfaces) {
    end_tap();
    DataPath& path = next ? *next : path_;
    if (auto attached = path.attach_xdp(layout->config.agent); !attached) co_return attached.error();
  }
  // From here on it is in force: what fails now is the kernel's memory.
  const AgentConfig& agent = layout->config.agent;
  const bool other_sensor = next || agent.socket_sensor != config_.agent.socket_sensor ||
                            agent.cgroup != config_.agent.cgroup ||
                            layout->config.has_sockets() != config_.has_sockets();
  report.changes = describe_changes(config_, layout->config);
  report.programs_replaced = next.has_value();
  const bool other_model = !(serving->model == model_);
  if (other_model) {
    report.changes.push_back("model " + serving->model.name + " v" +
                             std::to_string(serving->model.version));
  }
  for (const std::string& line : serving->warnings) report.warnings.push_back("model: " + line);
  // One that was given by hand stays, unless the configuration means another one now.
  const bool other_shadow =
      layout->config.model_watch.shadow_model != config_.model_watch.shadow_model ||
      (*shadow && !(*shadow == shadow_configured_));
  if (next) path_ = std::move(*next);
  config_ = layout->config;
  life_->configure(config_.model_watch, config_.agent.retry_window);
  if (other_shadow) {
    shadow_configured_ = *shadow;
    life_->set_shadow(std::move(*shadow));
  }
  loop_.set_model(serving->model);
  follow_model_text();
  log_->configure(config_.agent.state_dir, config_.log);
  if (other_model) {
    life_->begin(std::move(serving->model), std::move(serving->source),
                 std::move(serving->previous));
  }
  loop_.hold(life_->should_hold());
  spdlog::set_level(spdlog::level::from_str(config_.agent.log_level));
  if (auto opened = open_maps(layout->sizes); !opened) co_return opened.error();
  build_services(*layout, *pinned);
  const bool dropped = drop_overrides_of_nobody();
  ask_checkpoints();
  end_loose_readers();
  if (auto written = write_tables(); !written) co_return written.error();
  if (other_sensor) {
    path_.detach_sensor();
    if (auto sensing = attach_sensor(); !sensing) co_return sensing.error();
  }
  if (dropped) {
    if (auto kept = co_await keep_overrides(); !kept) report.warnings.push_back(kept.error().message());
  }
  co_return report;
}

// --- a configuration in force -------------------------------------------------------------------

// After the model has been set: the kernel's copy gets a generation of its own.
Result<void> Agent::follow_kernel_score() {
  kernel_score_.reset();
  if (!config_.agent.score_in_kernel) return {};
  auto opened = KernelScore::open(path_);
  if (!opened) return opened.error();
  kernel_score_.emplace(std::move(*opened));
  loop_.set_model(model_, kernel_score_->next_generation());
  write_views();
  kernel_score_->write_model(loop_.scoring());
  return {};
}

Result<void> Agent::open_maps(const MapSizes& sizes) {
  auto tables = Tables::open(path_);
  if (!tables) return tables.error();
  tables_.emplace(std::move(*tables));
  tables_->set_heartbeat_limit(config_.agent.heartbeat_limit);
  if (auto scoring = follow_kernel_score(); !scoring) return scoring;
  follow_recording();
  auto routes = RouteCache::open(path_.map_fd("routes"));
  if (!routes) return routes.error();
  routes_.emplace(std::move(*routes));
  auto events = EventReader::open(path_.map_fd("events"),
                                  [this](const bpf::event& event) { on_event(event); },
                                  [this](const bpf::record& record) { on_record(record); });
  if (!events) return events.error();
  events_.emplace(std::move(*events));

  auto backends = backend_stats_reader(path_.map_fd("backend_stats"), sizes.backends);
  auto services = service_stats_reader(path_.map_fd("service_stats"), sizes.services);
  auto verdicts = verdict_reader(path_.map_fd("verdicts"), sizes.services);
  auto retries = retry_counts_reader(path_.map_fd("retry_counts"), sizes.services);
  if (backend_reader_) backends.inherit(*backend_reader_);
  if (service_reader_) services.inherit(*service_reader_);
  if (verdict_reader_) verdicts.inherit(*verdict_reader_);
  if (retry_reader_) retries.inherit(*retry_reader_);
  for (const GrownMap& map : path_.take_grown()) {
    if (map.name() == "backend_stats") backends.carry(map.before(), map.after());
    if (map.name() == "service_stats") services.carry(map.before(), map.after());
    if (map.name() == "verdicts") verdicts.carry(map.before(), map.after());
    if (map.name() == "retry_counts") retries.carry(map.before(), map.after());
  }
  backend_reader_.emplace(std::move(backends));
  service_reader_.emplace(std::move(services));
  verdict_reader_.emplace(std::move(verdicts));
  retry_reader_.emplace(std::move(retries));
  verdicts_.resize(std::size_t{sizes.services} * bpf::VERDICTS);
  service_stats_.resize(sizes.services);
  return {};
}

void Agent::build_services(const Layout& layout, const PinnedState& pinned) {
  std::vector<ServiceLoop> earlier = std::exchange(services_, {});
  for (const auto& [id, place] : layout.places) tables_->place(id, place);
  for (const ServiceConfig& service : config_.services) {
    services_.emplace_back(service, config_.control);
  }
  for (const ServiceConfig& service : layout.leaving_services) {
    const ServiceLoop* had = find_loop(earlier, service.id);
    services_.push_back(ServiceLoop::leaving(had == nullptr ? service : had->config()));
  }
  for (const LeavingBackend& leaving : layout.leaving) add_leaving(leaving, earlier);
  set_drains(layout, pinned, earlier);

  std::vector<bpf::weight> weights(MAX_BACKENDS);
  for (const PinnedBackend& backend : pinned.backends) weights[backend.id] = backend.weight;
  for (ServiceLoop& service : services_) {
    const std::uint32_t id = service.config().id;
    const auto had = std::ranges::find_if(
        earlier, [&](const ServiceLoop& loop) { return loop.config().id == id; });
    if (had != earlier.end()) {
      service.inherit(*had);
      apply_overrides(service);
    } else if (const PinnedService* was = pinned.service(id); was != nullptr) {
      apply_overrides(service);
      const RingPlace& place = layout.places.at(id);
      const bool same_place = was->value.ring_offset == place.offset &&
                              was->value.slots == place.slots;
      service.adopt(same_place ? tables_->read_ring(id) : std::vector<std::uint32_t>{}, weights);
    } else {
      apply_overrides(service);
    }
    service.hold(loop_.held());
    service.settle();
  }
}

void Agent::add_leaving(const LeavingBackend& leaving, const std::vector<ServiceLoop>& earlier) {
  const ServiceLoop* had = find_loop(earlier, leaving.service_id);
  if (find_service(leaving.service_id) == nullptr) {
    // Its entry is another's already: this one has no address, and so no packets.
    ServiceConfig gone;
    gone.id = leaving.service_id;
    gone.name = had == nullptr ? "removed-" + std::to_string(gone.id) : had->config().name;
    services_.push_back(ServiceLoop::leaving(gone));
  }
  const BackendLoop* backend = find_backend(had, leaving.config.id);
  find_service(leaving.service_id)->add_leaving(backend == nullptr ? leaving.config
                                                                   : backend->config);
}

void Agent::set_drains(const Layout& layout, const PinnedState& pinned,
                       const std::vector<ServiceLoop>& earlier) {
  const std::uint64_t now_ns = monotonic_ns();
  for (ServiceLoop& service : services_) {
    const ServiceLoop* had = find_loop(earlier, service.config().id);
    const std::uint64_t deadline_ns = now_ns + ns(service.config().drain_deadline);
    for (BackendLoop& backend : service.backends()) {
      const EarlierDrain before = earlier_drain(find_backend(had, backend.config.id),
                                                pinned.backend(backend.config.id));
      service.set_drain(backend, drain_of(backend, before, deadline_ns));
      if (backend.drains() && !backend.leaving && !backend.config.drain && had == nullptr) {
        spdlog::warn("backend {} of {} goes on draining, as `petrel drain` has asked: --undo ends it",
                     backend.config.name, service.config().name);
      }
    }
  }
  for (const LeavingBackend& leaving : layout.leaving) {
    if (!leaving.at_once) continue;
    ServiceLoop* service = find_service(leaving.service_id);
    service->set_drain(*service->find(leaving.config.id), now_ns);
  }
}

// New backends are no backend's yet, and new rings nobody's: each service changes in one step, and
// what is gone is removed last.
Result<void> Agent::write_tables() {
  tables_->beat(monotonic_ns());
  const std::vector<ServiceConfig> in_use = services_in_use();
  if (auto written = tables_->write_addresses(in_use); !written) return written;
  for (ServiceLoop& service : services_) write_decisions(service, {});
  resolve_hops(true);
  if (auto learned = learn_retries(); !learned) return learned;
  for (const ServiceLoop& service : services_) {
    if (service.is_leaving()) continue;
    tables_->write_rings(service.config().id, service.neutral(), service.in_force());
    if (auto written = tables_->write_service(service.config()); !written) return written;
  }
  if (auto forgotten = tables_->forget_others(in_use); !forgotten) return forgotten;
  if (failure_) return *failure_;
  return {};
}

std::vector<ServiceConfig> Agent::services_in_use() const {
  std::vector<ServiceConfig> in_use;
  for (const ServiceLoop& service : services_) {
    if (is_one_host(service.config().address)) in_use.push_back(service.config_in_use());
  }
  return in_use;
}

}  // namespace petrel
