// SPDX-License-Identifier: MIT
// Agent: the loop. Each tick: read maps, features, score, risk, weights, ring.
//
// Everything runs on one io_context thread, so nothing needs a lock; programs are loaded on a thread of
// their own, which touches nothing else. Owns the data path from start() to the end of run(); members
// are in order of dependency. A start on the maps of an earlier agent and a reload are the same
// thing: reload.cpp.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/losses.hpp"
#include "agent/model_life.hpp"
#include "agent/overrides.hpp"
#include "agent/service_limits.hpp"
#include "api/server.hpp"
#include "base/error.hpp"
#include "capture/client_mask.hpp"
#include "config/config.hpp"
#include "control/hedge_law.hpp"
#include "decisions/decision_log.hpp"
#include "label/retry_fit.hpp"
#include "loop/loop.hpp"
#include "maps/data_path.hpp"
#include "maps/kernel_score.hpp"
#include "maps/layout.hpp"
#include "maps/next_hops.hpp"
#include "maps/pinned_state.hpp"
#include "maps/readers.hpp"
#include "maps/route_cache.hpp"
#include "maps/tables.hpp"
#include "maps/socket_table.hpp"
#include "maps/waiting_audit.hpp"
#include "watch/self_check.hpp"
#include "watch/shadow_tally.hpp"

namespace petrel {

struct AgentOptions {
  bool keep = false;       // on a stop, leave the data path running for a restart
  bool untrained = false;  // score nothing: for the capture that a first model is trained on
  std::string config_path = {};           // what a reload reads again
  std::optional<ServiceMode> mode = {};   // of every service, over the configuration's
};

// What a reload did.
struct ReloadReport {
  std::vector<std::string> changes;
  std::vector<std::string> warnings;  // what it could not change
  bool programs_replaced = false;
};

// What status shows of the loop itself.
struct LoopFacts {
  std::uint64_t started_ns = 0;
  std::uint64_t ticks = 0;
  std::uint64_t late_ticks = 0;       // began more than half a tick late
  std::uint64_t last_tick_us = 0;     // work, not waiting
  std::uint64_t worst_tick_us = 0;
  std::uint64_t all_ticks_us = 0;     // summed
  std::uint64_t events = 0;
  std::uint64_t retries_seen = 0;     // RETRY events, less those taken back
  double retries_predicted = 0;       // summed probabilities of ended or answered requests
  std::uint64_t expired_handshakes = 0;  // swept: unanswered SYNs whose client never came again
  std::uint64_t reloads = 0;             // that were put in force
  std::uint64_t audits = 0;              // of what waits; the last one's:
  std::uint64_t audit_us = 0;            // work, spread over many turns of the loop
  std::uint64_t connections_open = 0;
  std::uint64_t connections_closed = 0;  // entries that are kept for what may still come
  std::uint64_t waits_leaked = 0;        // ever found, and given back
  std::uint64_t evicted = 0;             // of these: requests of flows that `connections` evicted
  std::uint64_t unaccounted = 0;         // at the last audit: waits of sockets that may be gone
};

class MoveHash;
struct ServingModel;

// Of a configuration or a request; reads the key where one is needed.
Result<ClientMask> make_mask(ClientPrivacy privacy, const std::string& key_file);

struct Comparison;

// What a request orders, its service and backend as named; kUsage where it cannot be read.
Result<Override> override_of(const ApiRequest& request, OverrideKind kind);

class Agent {
 public:
  // Loads the model and the programs, writes the tables, attaches. On an error nothing is left
  // behind that was not there before.
  static Result<std::unique_ptr<Agent>> start(boost::asio::io_context& context, Config config,
                                              AgentOptions options);
  ~Agent();

  // Ticks until SIGTERM or SIGINT, then stops as the options say. An error ends the loop, too.
  Result<void> run();

  // For the API; on the loop's thread.
  const Config& config() const { return config_; }
  const Model& model() const { return model_; }
  const ModelLife& life() const { return *life_; }
  bool weights_held() const { return loop_.held(); }
  const LoopFacts& facts() const { return facts_; }
  const Losses& losses() const { return losses_; }
  const std::vector<ServiceLoop>& services() const { return services_; }
  const std::vector<bpf::service_stats>& service_stats() const { return service_stats_; }
  // Of one service, or of no service (0).
  std::span<const std::uint64_t> verdicts(std::uint32_t service_id) const {
    return std::span(verdicts_).subspan(std::size_t{service_id} * bpf::VERDICTS, bpf::VERDICTS);
  }
  const std::vector<std::string>& degraded() const { return path_.degraded(); }
  const std::string& hedge_failure() const { return hedge_failure_; }  // "": SYNs can be hedged
  RetryAllowance retries(std::uint32_t service_id) const;
  double retries_due(std::uint32_t service_id) const;  // within the next second, as foreseen
  // As of the last tick, whether it is in force or not.
  AdmissionDecision admission(std::uint32_t service_id) const;
  EdgeReading edge(std::uint32_t service_id) const;
  const Tables& tables() const { return *tables_; }
  bool adopted() const { return adopted_; }
  // Of a balanced service with a holdout; else none.
  const SelfCheck* self_check(std::uint32_t service_id) const;
  const Overrides& overrides() const { return overrides_; }
  const DecisionLog& decision_log() const { return *log_; }
  bool tapping() const { return tap_ != nullptr; }

 private:
  class Capture;

  Agent(boost::asio::io_context& context, Config config, AgentOptions options,
        ServingModel serving, DataPath path);
  Result<void> prepare(const Layout& layout, const PinnedState& pinned);
  Result<void> attach_sensor();
  void resolve_hops(bool force_write);

  // reload.cpp
  boost::asio::awaitable<Result<ReloadReport>> reload();
  boost::asio::awaitable<Result<ReloadReport>> reload_once();
  boost::asio::awaitable<void> reload_on_signal();
  Result<Config> read_again(std::vector<std::string>& warnings) const;
  Result<void> open_maps(const MapSizes& sizes);
  Result<void> follow_kernel_score();
  void build_services(const Layout& layout, const PinnedState& pinned);
  void add_leaving(const LeavingBackend& leaving, const std::vector<ServiceLoop>& earlier);
  void set_drains(const Layout& layout, const PinnedState& pinned,
                  const std::vector<ServiceLoop>& earlier);
  Result<void> write_tables();
  std::vector<ServiceConfig> services_in_use() const;

  // drain.cpp
  Result<void> drain(ServiceLoop& service, BackendLoop& backend, std::uint64_t drained_ns);
  void count_connections(std::uint64_t now_ns);
  void forget_gone(const std::map<std::uint32_t, std::uint64_t>& entries, std::uint64_t now_ns);
  bool is_gone(const bpf::half_open& flow, std::uint64_t now_ns);

  // requests.cpp
  boost::asio::awaitable<ApiReply> answer(ApiRequest request);
  boost::asio::awaitable<ApiReply> answer_reload();
  ApiReply explain(const ApiRequest& request) const;
  boost::asio::awaitable<ApiReply> answer_drain(ApiRequest request);
  ApiReply answer_budget(const ApiRequest& request);

  // override_requests.cpp
  boost::asio::awaitable<ApiReply> answer_override(ApiRequest request, OverrideKind kind);
  boost::asio::awaitable<ApiReply> answer_release(ApiRequest request);
  std::string overrides_path() const;
  Result<ServiceLoop*> service_to_order(const std::string& name);
  Result<BackendLoop*> backend_to_order(ServiceLoop& service, const std::string& name);
  Result<void> set_hand(ServiceLoop& service, BackendLoop& backend, double percent);
  void end_override(const Override& it);
  void publish_orders(ServiceLoop& service);
  void expire_overrides();
  boost::asio::awaitable<Result<void>> keep_overrides();
  boost::asio::awaitable<void> keep_overrides_or_say();
  void apply_overrides(ServiceLoop& service);
  bool drop_overrides_of_nobody();
  void resume_overrides();

  // decisions.cpp
  void log_decision(Decision decision);
  void log_backend(const ServiceLoop& service, const BackendLoop& backend);
  void log_service(const ServiceLoop& service);
  void log_budget(const ServiceLoop& service, double rate_per_s, std::uint64_t now_ns);
  void log_override(const Override& it, const std::string& event, const std::string& note);
  void follow_model_text();

  // self_checks.cpp
  void observe_for_self_check(const bpf::event& event);
  void follow_self_checks(std::uint64_t now_ns);
  void put_harm_in_force(ServiceLoop& service, const std::string& note);
  bool release_self_check(ServiceLoop& service, const std::string& note);
  std::string harms_path() const;
  void resume_harms();
  boost::asio::awaitable<void> keep_harms();

  // shadow_reports.cpp
  void follow_shadow(const ServiceLoop& service, std::uint64_t now_ns);
  ApiReply answer_report(const ApiRequest& request) const;

  // model_requests.cpp
  boost::asio::awaitable<ApiReply> answer_model(ApiRequest request);
  ApiReply answer_shadow(const ApiRequest& request);
  ApiReply answer_accept(const ApiRequest& request);
  ApiReply answer_rollback(const ApiRequest& request);
  boost::asio::awaitable<ApiReply> answer_compare();
  boost::asio::awaitable<ApiReply> answer_promote(ApiRequest request);
  boost::asio::awaitable<Comparison> compare_models();
  void put_in_force(Model model, std::string source, std::optional<Model> previous);
  void follow_model_state();  // weights are held, or no more, as the live model's state says

  // captures.cpp
  ApiReply open_capture(const ApiRequest& request);
  ApiReply answer_checkpoint();
  void ask_checkpoints();  // the loop has changed by other means than a tick
  void end_loose_readers();  // that see more of clients than is now configured
  void begin_captures();
  void on_record(const bpf::record& record);
  void record_expired(const bpf::half_open& flow);
  void end_captures(std::uint64_t now_ns, std::chrono::nanoseconds elapsed, const MoveHash& moves);
  void follow_recording();  // records are sent while somebody wants them

  // tap_stream.cpp
  boost::asio::awaitable<ApiReply> open_tap(ApiRequest request);
  void check_tap();
  void end_tap();

  boost::asio::awaitable<void> tick_loop();
  boost::asio::awaitable<void> follow_routes();
  boost::asio::awaitable<void> probe_loop();
  boost::asio::awaitable<void> sweep_loop();

  // audit.cpp
  boost::asio::awaitable<void> audit_loop();
  boost::asio::awaitable<void> audit();
  void heal(const WaitingAudit& audit);
  using Flows = std::vector<std::pair<bpf::connection_key, bpf::connection>>;
  bool may_have_closed_unseen(const bpf::connection_key& key, const bpf::connection& flow,
                              std::uint64_t now_ns) const;
  void count_unaccounted(const Flows& doubtful);
  std::optional<SocketEnds> ends_of(const bpf::connection_key& key,
                                    const bpf::connection& flow) const;

  void spawn(boost::asio::awaitable<void> coroutine, const char* what);
  void stop();

  Result<void> tick(std::uint64_t now_ns, std::chrono::nanoseconds elapsed);
  void on_event(const bpf::event& event);
  void follow_wall_clock();
  void write_views();
  Result<void> read_counts(std::uint64_t now_ns);
  void write_decisions(ServiceLoop& service, std::span<const RingChange> changes);
  void write_backend(const ServiceLoop& service, const BackendLoop& backend);
  ServiceLoop* find_service(std::uint32_t service_id) { return loop_.find_service(service_id); }
  void expire(const bpf::half_open& flow);
  void count_losses();
  Result<void> update_limits(const ServiceLoop& service, std::chrono::nanoseconds elapsed);
  Result<void> write_budget(const ServiceLoop& service);
  // How old a SYN is that is to be hedged; 0: none is now.
  std::uint64_t hedge_after_ns(const ServiceLoop& service, std::chrono::nanoseconds elapsed);
  void hedge_syns(std::chrono::nanoseconds elapsed);
  Result<void> learn_retries();
  void await_signal();

  boost::asio::io_context& context_;
  Config config_;
  AgentOptions options_;
  Loop loop_;
  const Model& model_ = loop_.model();                            // the loop's parts
  std::vector<ServiceLoop>& services_ = loop_.services();
  FeatureState& features_ = loop_.features();
  std::unique_ptr<ModelLife> life_;
  std::optional<Model> shadow_configured_;  // as last read from model_watch.shadow_model
  DataPath path_;
  std::optional<Tables> tables_;
  std::optional<KernelScore> kernel_score_;  // with agent.score_in_kernel
  std::optional<NextHops> hops_;
  std::optional<RouteCache> routes_;
  std::optional<EventReader> events_;
  std::optional<PerCpuReader<bpf::backend_stats>> backend_reader_;
  std::optional<PerCpuReader<bpf::service_stats>> service_reader_;
  std::optional<PerCpuReader<std::uint64_t>> verdict_reader_;
  std::optional<PerCpuReader<bpf::retry_counts>> retry_reader_;
  std::map<std::uint32_t, RetryFit> retry_fits_;  // by service id
  std::chrono::nanoseconds since_learning_{0};
  std::vector<bpf::service_stats> service_stats_;
  std::vector<std::uint64_t> verdicts_;  // by service id * VERDICTS + verdict
  std::vector<std::unique_ptr<Capture>> captures_;
  std::uint64_t events_in_tick_ = 0;
  LoopFacts facts_;
  Losses losses_;
  Overrides overrides_;
  std::unique_ptr<DecisionLog> log_;
  std::string model_text_;  // the live model's name, as decisions have it
  // As last logged.
  struct LoggedBackend {
    std::uint32_t factor_q16 = kWholeWeight;
    std::uint32_t decided_q16 = kWholeWeight;
    bpf::backend_state state = bpf::BACKEND_UNUSED;
    bool operator==(const LoggedBackend&) const = default;
  };
  struct LoggedService {
    bool panic = false;
    bool held = false;
    ServiceMode mode = ServiceMode::kShadow;
    BudgetConfig budget;
  };
  struct LoggedBudget {
    double rate_per_s = 0;
    std::uint64_t shed_retries = 0;
    std::uint64_t logged_ns = 0;   // 0: not yet
    std::uint64_t refused_ns = 0;  // when it last refused; 0: it does not
  };
  std::map<std::uint32_t, LoggedBackend> logged_backends_;  // by backend id
  std::map<std::uint32_t, LoggedService> logged_services_;  // by service id
  std::map<std::uint32_t, LoggedBudget> logged_budgets_;
  std::map<std::uint32_t, ServiceLimits> limits_;  // by service id
  std::map<std::uint32_t, HedgeLaw> hedges_;       // by service id
  std::uint64_t half_open_evicted_ = 0;
  bool can_hedge_ = true;
  std::string hedge_failure_;  // why it cannot
  std::map<std::uint32_t, SelfCheck> self_checks_;  // by service id, of those with a holdout
  std::map<std::uint32_t, ShadowTally> shadow_tallies_;  // by service id, of those in shadow
  std::uint64_t tick_ns_ = 0;         // when the tick in hand, or the last one, began
  std::uint64_t self_checked_ns_ = 0;
  std::optional<Error> failure_;
  bool adopted_ = false;  // started on the maps of an earlier agent
  bool stopping_ = false;
  bool replacing_ = false;  // programs are being loaded: no second reload, no tap meanwhile
  std::shared_ptr<LineStream> tap_;  // whose other holder is the tap's reader
  std::uint64_t sensor_since_ns_ = 0;  // no socket has closed unseen from then on
  std::uint64_t next_count_ns_ = 0;  // of connections, while something drains

  boost::asio::thread_pool loader_{1};

  boost::asio::signal_set signals_;
  boost::asio::steady_timer tick_timer_;
  boost::asio::steady_timer probe_timer_;
  boost::asio::steady_timer sweep_timer_;
  boost::asio::steady_timer audit_timer_;
  boost::asio::posix::stream_descriptor route_events_;
  std::unique_ptr<ApiServer> api_;
};

}  // namespace petrel
