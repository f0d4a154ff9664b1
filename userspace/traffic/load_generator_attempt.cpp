// SPDX-License-Identifier: MIT
// LoadGenerator: one attempt of one request, and the idle connections that it may use.
#include "traffic/load_generator.hpp"
#include "traffic/request_text.hpp"

namespace petrel::traffic {

namespace asio = boost::asio;

namespace {

// Idle connections kept for one client address and target: as many as browsers keep.
constexpr std::size_t kMostIdle = 6;

std::int64_t to_ns(asio::steady_timer::time_point time) {
  return std::chrono::nanoseconds(time.time_since_epoch()).count();
}

std::int64_t us_between(asio::steady_timer::time_point from, asio::steady_timer::time_point to) {
  return std::chrono::duration_cast<std::chrono::microseconds>(to - from).count();
}

}  // namespace

// An idle connection, or a new one.
asio::awaitable<boost::system::error_code> LoadGenerator::open_connection(Live& live,
                                                                          Clock::time_point start,
                                                                          Attempt& record) {
  const Target& target = *live.target;
  boost::system::error_code ec;
  live.connection = take_idle(live);
  record.reused = live.connection != nullptr;
  if (!record.reused) {
    std::optional<asio::ip::address> source;
    if (target.sources != nullptr) source = target.sources->at(live.client);
    live.connection = std::make_shared<ClientConnection>(io_, target.endpoint);
    ec = co_await live.connection->connect(source, start + options_.connect_timeout);
    if (!ec) record.connect_us = us_between(start, Clock::now());
    if (ec) record.outcome = outcome_of_connect(ec);
    // A failed bind leaves no local address; the one asked for is still whose attempt it was.
    if (source) record.client = source->to_string();
  }
  if (live.connection->local().port() != 0) {
    record.client = live.connection->local().address().to_string();
    record.port = live.connection->local().port();
  }
  co_return ec;
}

asio::awaitable<Attempt> LoadGenerator::attempt(Live& live, int number) {
  const auto start = Clock::now();
  Attempt record{.request = live.id,
                 .number = number,
                 .kind = live.kind,
                 .target = live.target->text,
                 .path = live.path,
                 .post_bytes = live.post_bytes};
  record.intended_ns = to_ns(live.intended);
  record.start_ns = to_ns(start);

  boost::system::error_code ec = co_await open_connection(live, start, record);
  const auto asked = Clock::now();
  Answer answer;
  if (!ec) {
    const std::string bytes = to_bytes({.host = live.target->text,
                                        .path = live.path,
                                        .keep_alive = options_.keep_alive,
                                        .post_bytes = live.post_bytes,
                                        .id_header = options_.id_header},
                                       live.id);
    ec = co_await live.connection->ask(bytes, answer, start + options_.timeout);
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
