// SPDX-License-Identifier: MIT
// Agent: the loop. Each tick: read maps, features, score, risk, weights, ring.
//
// Everything runs on one io_context thread, so nothing needs a lock. Owns the data path from start()
// to the end of run(); members are in order of dependency.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/service_loop.hpp"
#include "api/server.hpp"
#include "base/error.hpp"
#include "config/config.hpp"
#include "features/feature_state.hpp"
#include "maps/data_path.hpp"
#include "maps/next_hops.hpp"
#include "maps/readers.hpp"
#include "maps/tables.hpp"
#include "score/model.hpp"
#include "telemetry/labeller.hpp"

namespace petrel {

struct AgentOptions {
  bool keep = false;       // on a stop, leave the data path running for a restart
  bool untrained = false;  // score nothing: for the capture that a first model is trained on
};

// What status shows of the loop itself.
struct LoopFacts {
  std::uint64_t started_ns = 0;
  std::uint64_t ticks = 0;
  std::uint64_t late_ticks = 0;       // began more than half a tick late
  std::uint64_t last_tick_us = 0;     // work, not waiting
  std::uint64_t worst_tick_us = 0;
  std::uint64_t events = 0;
  std::uint64_t retries_seen = 0;     // RETRY events
  double retries_predicted = 0;       // summed probabilities of ended or answered requests
  std::uint64_t expired_handshakes = 0;  // swept: unanswered SYNs whose client never came again
};

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
  const LoopFacts& facts() const { return facts_; }
  const std::vector<ServiceLoop>& services() const { return services_; }
  const std::vector<bpf::service_stats>& service_stats() const { return service_stats_; }
  const std::vector<std::uint64_t>& verdicts() const { return verdicts_; }
  const std::vector<std::string>& degraded() const { return path_.degraded(); }
  const Tables& tables() const { return *tables_; }
  bool adopted() const { return path_.adopted(); }

 private:
  struct Capture;

  Agent(boost::asio::io_context& context, Config config, AgentOptions options, Model model,
        DataPath path);
  Result<void> prepare();
  Result<void> adopt_state();
  void resolve_hops(bool force_write);
  ApiReply answer(const ApiRequest& request);
  ApiReply open_capture(const ApiRequest& request);

  boost::asio::awaitable<void> tick_loop();
  boost::asio::awaitable<void> follow_routes();
  boost::asio::awaitable<void> probe_loop();
  boost::asio::awaitable<void> sweep_loop();
  void spawn(boost::asio::awaitable<void> coroutine, const char* what);
  void stop();

  Result<void> tick(std::uint64_t now_ns, std::chrono::nanoseconds elapsed);
  void on_event(const bpf::event& event);
  void score_waiting(ServiceLoop& service, BackendLoop& backend, Point point,
                     const WaitingLedger& ledger);
  void write_decisions(ServiceLoop& service, std::span<const RingChange> changes);
  void write_backend(const ServiceLoop& service, const BackendLoop& backend);
  void advance_features(std::uint64_t now_ns);
  void expire(const bpf::connection_key& key, const bpf::connection& connection);

  boost::asio::io_context& context_;
  Config config_;
  AgentOptions options_;
  Model model_;
  DataPath path_;
  std::optional<Tables> tables_;
  std::optional<NextHops> hops_;
  std::vector<ServiceLoop> services_;
  FeatureState features_;
  std::optional<EventReader> events_;
  std::optional<PerCpuReader<bpf::backend_stats>> backend_reader_;
  std::optional<PerCpuReader<bpf::service_stats>> service_reader_;
  std::optional<PerCpuReader<std::uint64_t>> verdict_reader_;
  std::vector<bpf::service_stats> service_stats_;
  std::vector<std::uint64_t> verdicts_;
  std::vector<std::unique_ptr<Capture>> captures_;
  LoopFacts facts_;
  std::optional<Error> failure_;
  bool stopping_ = false;

  boost::asio::signal_set signals_;
  boost::asio::steady_timer tick_timer_;
  boost::asio::steady_timer probe_timer_;
  boost::asio::steady_timer sweep_timer_;
  boost::asio::posix::stream_descriptor route_events_;
  std::unique_ptr<ApiServer> api_;
};

}  // namespace petrel
