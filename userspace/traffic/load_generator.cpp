// SPDX-License-Identifier: MIT
#include "traffic/load_generator.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "traffic/endpoint.hpp"
#include "traffic/request_text.hpp"
#include "traffic/rethrow.hpp"

namespace petrel::traffic {

namespace asio = boost::asio;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

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
      path_random_(options.seed, Stream::kPaths),
      poller_random_(options.seed, Stream::kPollers),
      post_random_(options.seed, Stream::kPosts),
      arrival_timer_(io),
      all_ended_(io, Clock::time_point::max()) {
  for (const auto& endpoint : options.targets) {
    Target target{.endpoint = endpoint, .text = to_text(endpoint)};
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
  for (std::uint64_t number = 0; number < options_.pollers; ++number) {
    // Pollers were started at any time before, not all at once.
    const auto phase = std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double, std::milli>(options_.poll_interval) *
        poller_random_.uniform());
    asio::co_spawn(
        io_, run_poller(number, poll_timers_.emplace(poll_timers_.end(), io_), beginning + phase),
        kRethrow);
  }
  co_await run_users(beginning);
  while (!live_.empty() || !poll_timers_.empty()) co_await all_ended_.async_wait(kTuple);
  idle_.clear();
}

asio::awaitable<void> LoadGenerator::run_users(Clock::time_point beginning) {
  while (!stopping_) {
    const auto intended = beginning + arrivals_.next();
    if (intended >= beginning + options_.duration) break;
    // Waits even for a moment that has passed: so those under way get their turn between arrivals.
    arrival_timer_.expires_at(intended);
    co_await arrival_timer_.async_wait(kTuple);
    if (!stopping_) start_requests(intended);
  }
}

asio::awaitable<void> LoadGenerator::run_poller(std::uint64_t number, TimerPlace timer,
                                                Clock::time_point first) {
  const Target& target = targets_[number % targets_.size()];
  const auto end = Clock::now() + options_.duration;
  for (auto due = first; due < end && !stopping_; due += options_.poll_interval) {
    // A poll that takes longer than the interval makes the poller leave out what it missed.
    if (due + options_.poll_interval <= Clock::now()) continue;
    timer->expires_at(due);
    co_await timer->async_wait(kTuple);
    if (stopping_ || !may_start()) continue;
    // Not within the co_await: GCC 12 destroys such temporaries twice.
    const LivePlace live = add_live({.id = ++last_id_,
                                     .intended = due,
                                     .target = &target,
                                     .client = number % target.clients,
                                     .kind = Kind::kPoll,
                                     .path = kPollPath,
                                     .backoff = asio::steady_timer(io_)});
    co_await run_poll(live);
  }
  poll_timers_.erase(timer);
  all_ended_.cancel();
}

void LoadGenerator::stop() {
  stopping_ = true;
  arrival_timer_.cancel();
  for (asio::steady_timer& timer : poll_timers_) timer.cancel();
  for (Live& live : live_) {
    live.backoff.cancel();
    if (live.connection) live.connection->cancel();
  }
}

bool LoadGenerator::may_start() {
  if (live_.size() < options_.max_outstanding) return true;
  summary_.add_skipped();
  return false;
}

LoadGenerator::LivePlace LoadGenerator::add_live(Live live) {
  live_.push_back(std::move(live));
  return std::prev(live_.end());
}

std::optional<std::uint64_t> LoadGenerator::draw_post() {
  if (post_random_.uniform() >= options_.post_share) return std::nullopt;
  return draw_post_bytes(options_.post_mean_bytes, post_random_);
}

// What a client asks for at once.
void LoadGenerator::start_requests(Clock::time_point intended) {
  const Target& target = targets_[(last_id_ + 1) % targets_.size()];
  const std::uint64_t client = client_random_.below(target.clients);
  for (std::uint64_t i = 0; i < options_.parallel; ++i) {
    // Drawn for skipped ones too, so that the others get the paths they would have had.
    const std::uint64_t path = path_random_.below(options_.paths);
    const std::optional<std::uint64_t> post_bytes = draw_post();
    ++last_id_;
    if (!may_start()) continue;
    summary_.add_late_start(us_between(intended, Clock::now()));
    const LivePlace live = add_live({.id = last_id_,
                                     .intended = intended,
                                     .target = &target,
                                     .client = client,
                                     .kind = Kind::kUser,
                                     .path = path_of(path, options_.paths),
                                     .post_bytes = post_bytes,
                                     .backoff = asio::steady_timer(io_)});
    asio::co_spawn(io_, run_request(live), kRethrow);
  }
}

asio::awaitable<void> LoadGenerator::run_request(LivePlace live) {
  for (int number = 1; !stopping_; ++number) {
    const Attempt result = co_await attempt(*live, number);
    if (stopping_) break;
    log_.write(result);
    summary_.add_attempt(result);
    const bool served = result.outcome == Outcome::kOk;
    std::optional<std::chrono::nanoseconds> delay;
    if (!served && may_repeat(result, options_.retry_posts)) {
      delay = options_.retry.delay_after(number, retry_random_.uniform());
    }
    if (!delay) {
      finish(live, served, number);
      co_return;
    }
    live->backoff.expires_after(*delay);
    co_await live->backoff.async_wait(kTuple);
  }
  abandon(live);
}

asio::awaitable<void> LoadGenerator::run_poll(LivePlace live) {
  const Attempt result = co_await attempt(*live, 1);
  if (stopping_) {
    abandon(live);
    co_return;
  }
  log_.write(result);
  summary_.add_attempt(result);
  finish(live, result.outcome == Outcome::kOk, 1);
}

void LoadGenerator::finish(LivePlace live, bool served, int attempts) {
  const std::int64_t latency_us = us_between(live->intended, Clock::now());
  summary_.add_request(served, latency_us);
  log_.write_done(live->id, served, attempts, latency_us);
  remove(live);
}

void LoadGenerator::abandon(LivePlace live) {
  summary_.add_abandoned(1);
  remove(live);
}

void LoadGenerator::remove(LivePlace live) {
  live_.erase(live);
  if (live_.empty()) all_ended_.cancel();
}

}  // namespace petrel::traffic
