// SPDX-License-Identifier: MIT
// LoadGenerator: an open-loop client of many addresses. Requests are due by a Poisson process,
// whatever became of the earlier ones, and their latency counts from the moment they were due: a
// stall, of the servers or of this program, cannot hide by delaying what would have measured it.
// Pollers beside them ask at fixed intervals, one request at a time.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "traffic/arrivals.hpp"
#include "traffic/attempt_log.hpp"
#include "traffic/client_connection.hpp"
#include "traffic/client_options.hpp"
#include "traffic/random.hpp"
#include "traffic/summary.hpp"

namespace petrel::traffic {

class LoadGenerator {
 public:
  // All of them must outlive the generator.
  LoadGenerator(boost::asio::io_context& io, const ClientOptions& options, AttemptLog& log,
                Summary& summary);

  // Sends requests for the time asked and returns when the last of them has ended.
  boost::asio::awaitable<void> run();

  // Ends run() early: requests under way are abandoned.
  void stop();

  std::size_t outstanding() const { return live_.size(); }

 private:
  using Clock = boost::asio::steady_timer::clock_type;  // CLOCK_MONOTONIC
  using Connection = std::shared_ptr<ClientConnection>;

  struct Target {
    boost::asio::ip::tcp::endpoint endpoint;
    std::string text;
    const SourceRange* sources = nullptr;  // of this target's family, or none
    std::uint64_t clients = 1;             // how many addresses of sources are used
  };

  // A request under way: between its attempts it waits for its timer.
  struct Live {
    std::uint64_t id;
    Clock::time_point intended;
    const Target* target;
    std::uint64_t client;
    Kind kind;
    std::string path;
    std::optional<std::uint64_t> post_bytes = {};
    boost::asio::steady_timer backoff;
    Connection connection = nullptr;
  };
  using LivePlace = std::list<Live>::iterator;
  using TimerPlace = std::list<boost::asio::steady_timer>::iterator;

  boost::asio::awaitable<void> run_users(Clock::time_point beginning);
  boost::asio::awaitable<void> run_poller(std::uint64_t number, TimerPlace timer,
                                          Clock::time_point first);
  void start_requests(Clock::time_point intended);
  std::optional<std::uint64_t> draw_post();
  LivePlace add_live(Live live);
  boost::asio::awaitable<void> run_request(LivePlace live);
  boost::asio::awaitable<void> run_poll(LivePlace live);
  boost::asio::awaitable<Attempt> attempt(Live& live, int number);
  boost::asio::awaitable<boost::system::error_code> open_connection(Live& live,
                                                                    Clock::time_point start,
                                                                    Attempt& record);
  void finish(LivePlace live, bool served, int attempts);
  void abandon(LivePlace live);
  void remove(LivePlace live);
  bool may_start();
  Connection take_idle(const Live& live);
  void keep_idle(const Live& live);

  boost::asio::io_context& io_;
  const ClientOptions& options_;
  AttemptLog& log_;
  Summary& summary_;
  std::vector<Target> targets_;
  Arrivals arrivals_;
  Random client_random_;
  Random retry_random_;
  Random path_random_;
  Random poller_random_;
  Random post_random_;
  boost::asio::steady_timer arrival_timer_;
  std::list<boost::asio::steady_timer> poll_timers_;  // of the pollers that still run
  boost::asio::steady_timer all_ended_;               // run() waits for its cancel()
  std::uint64_t last_id_ = 0;
  bool stopping_ = false;
  std::list<Live> live_;
  std::map<std::pair<const Target*, std::uint64_t>, std::vector<Connection>> idle_;
};

}  // namespace petrel::traffic
