// SPDX-License-Identifier: MIT
#include "traffic/load_generator.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "traffic/endpoint.hpp"
#include "traffic/rethrow.hpp"

namespace petrel::traffic {

namespace asio = boost::asio;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

// Idle connections kept for one client address and target: as many as browsers keep.
constexpr std::size_t kMostIdle = 6;

std::int64_t to_ns(asio::steady_timer::time_point time) {
  return std::chrono::nanoseconds(time.time_since_epoch()).count();
}

std::int64_t us_between(asio::steady_timer::time_point from, asio::steady_timer::time_point to) {
  return std::chrono::duration_cast<std::chrono::microseconds>(to - from).count();
}

}  // namespace

LoadGenerator::LoadGenerator(asio::io_context& io, const ClientOptions& options, AttemptLog& log,
                             Summary& summary)
    : io_(io),
      options_(options),
      log_(log),
      summary_(summary),
      arrivals_(options.rate_per_s, Random(options.seed, Stream::kArrivals)),
      client_random_(options.seed, Stream::kClients),
      retry_random_(options.seed, Stream::kRetries),
      arrival_timer_(io),
      all_ended_(io, Clock::time_point::max()) {
  for (const auto& endpoint : options.targets) {
    Target target{.endpoint = endpoint, .text = to_text(endpoint)};
    target.request_bytes = "GET / HTTP/1.1\r\nHost: " + target.text +
                           "\r\nConnection: " + (options.keep_alive ? "keep-alive" : "close") +
                           "\r\n\r\n";
    for (const SourceRange& range : options.sources) {
      if (range.is_v6() != endpoint.address().is_v6()) continue;
      target.sources = &range;
      target.clients = std::min(options.clients, range.size());
    }
    targets_.push_back(std::move(target));
  }
}

asio::awaitable<void> LoadGenerator::run() {
  const auto beginning = Clock::now();
  const auto end = beginning + options_.duration;
  while (!stopping_) {
    const auto intended = beginning + arrivals_.next();
    if (intended >= end) break;
    // Waits even for a moment that has passed: so those under way get their turn between arrivals.
    arrival_timer_.expires_at(intended);
    co_await arrival_timer_.async_wait(kTuple);
    if (!stopping_) start_request(intended);
  }
  while (!live_.empty()) co_await all_ended_.async_wait(kTuple);
  idle_.clear();
}

void LoadGenerator::stop() {
  stopping_ = true;
  arrival_timer_.cancel();
  for (Live& live : live_) {
    live.backoff.cancel();
    if (live.connection) live.connection->cancel();
  }
}

void LoadGenerator::start_request(Clock::time_point intended) {
  ++last_id_;
  // Drawn for skipped ones too, so that the others get the clients they would have had.
  const Target& target = targets_[last_id_ % targets_.size()];
  const std::uint64_t client = client_random_.below(target.clients);
  if (live_.size() >= options_.max_outstanding) {
    summary_.add_skipped();
    return;
  }
  summary_.add_late_start(us_between(intended, Clock::now()));
  live_.push_back(Live{.id = last_id_,
                       .intended = intended,
                       .target = &target,
                       .client = client,
                       .backoff = asio::steady_timer(io_),
                       .connection = nullptr});
  asio::co_spawn(io_, run_request(std::prev(live_.end())), kRethrow);
}

asio::awaitable<void> LoadGenerator::run_request(LivePlace live) {
  for (int number = 1; !stopping_; ++number) {
    const Attempt result = co_await attempt(*live, number);
    if (stopping_) break;
    log_.write(result);
    summary_.add_attempt(result);
    const bool served = result.outcome == Outcome::kOk;
    std::optional<std::chrono::nanoseconds> delay;
    if (!served) delay = options_.retry.delay_after(number, retry_random_.uniform());
    if (!delay) {
      finish(live, served, number);
      co_return;
    }
    live->backoff.expires_after(*delay);
    co_await live->backoff.async_wait(kTuple);
  }
  summary_.add_abandoned(1);
  live_.erase(live);
  if (live_.empty()) all_ended_.cancel();
}

void LoadGenerator::finish(LivePlace live, bool served, int attempts) {
  const std::int64_t latency_us = us_between(live->intended, Clock::now());
  summary_.add_request(served, latency_us);
  log_.write_done(live->id, served, attempts, latency_us);
  live_.erase(live);
  if (live_.empty()) all_ended_.cancel();
}

asio::awaitable<Attempt> LoadGenerator::attempt(Live& live, int number) {
  const Target& target = *live.target;
  const auto start = Clock::now();
  Attempt record{.request = live.id, .number = number, .target = target.text};
  record.intended_ns = to_ns(live.intended);
  record.start_ns = to_ns(start);

  boost::system::error_code ec;
  live.connection = take_idle(live);
  record.reused = live.connection != nullptr;
  auto asked = start;
  if (!record.reused) {
    std::optional<asio::ip::address> source;
    if (target.sources != nullptr) source = target.sources->at(live.client);
    live.connection = std::make_shared<ClientConnection>(io_, target.endpoint);
    ec = co_await live.connection->connect(source, start + options_.connect_timeout);
    asked = Clock::now();
    if (!ec) record.connect_us = us_between(start, asked);
    if (ec) record.outcome = outcome_of_connect(ec);
    // A failed bind leaves no local address; the one asked for is still whose attempt it was.
    if (source) record.client = source->to_string();
  }
  if (live.connection->local().port() != 0) {
    record.client = live.connection->local().address().to_string();
    record.port = live.connection->local().port();
  }

  Answer answer;
  if (!ec) {
    ec = co_await live.connection->ask(target.request_bytes, answer, start + options_.timeout);
    if (ec) record.outcome = outcome_of_exchange(ec);
  }
  const auto end = Clock::now();
  record.end_ns = to_ns(end);
  if (!ec) {
    record.response_us = us_between(asked, end);
    record.status = answer.status;
    record.backend = std::move(answer.backend);
    record.outcome = outcome_of_status(answer.status);
    if (options_.keep_alive && answer.keep_alive) keep_idle(live);
  } else if (record.outcome == Outcome::kError) {
    record.error =
        ec.category() == boost::system::system_category() ? errno_name(ec.value()) : ec.message();
  }
  // Closes it, unless it was kept: a client that gave up does not wait for a late answer.
  live.connection.reset();
  co_return record;
}

LoadGenerator::Connection LoadGenerator::take_idle(const Live& live) {
  const auto found = idle_.find({live.target, live.client});
  if (found == idle_.end()) return nullptr;
  auto& connections = found->second;
  // The one used last is the one least likely to be closed by its server.
  while (!connections.empty()) {
    Connection connection = std::move(connections.back());
    connections.pop_back();
    if (connection->is_usable()) return connection;
  }
  return nullptr;
}

void LoadGenerator::keep_idle(const Live& live) {
  auto& connections = idle_[{live.target, live.client}];
  if (connections.size() < kMostIdle) connections.push_back(live.connection);
}

}  // namespace petrel::traffic
