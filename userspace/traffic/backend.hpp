// SPDX-License-Identifier: MIT
// Backend: an HTTP/1.1 server that takes its time, and misbehaves when told to.
//
// All of it runs on one io_context; no member may be called from another thread.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "traffic/fault.hpp"
#include "traffic/listeners.hpp"
#include "traffic/random.hpp"
#include "traffic/service_time.hpp"
#include "traffic/work_queue.hpp"

namespace petrel::traffic {

struct BackendOptions {
  std::string name;
  std::vector<boost::asio::ip::tcp::endpoint> listen;
  ServiceTime service_time;
  std::size_t concurrency = 16;
  std::size_t queue = 1024;
  std::size_t body_bytes = 64;
  // Of each answer, on top of its time of service and outside its slot: the way from another zone.
  std::chrono::nanoseconds added_delay{0};
  std::uint64_t seed = 1;
};

class Backend {
 public:
  Backend(boost::asio::io_context& io, BackendOptions options);

  Result<> start() { return listeners_.open(); }

  // Closes everything; the io_context then runs out of work.
  void stop();

  // Begins a fault in place of the one before it, or ends it (kNone).
  Result<> apply(const Fault& fault);

  // "petrel/backend-stats/v1".
  boost::json::object stats() const;

 private:
  struct Session {
    boost::asio::ip::tcp::socket socket;
    boost::asio::steady_timer delay;  // of an answer on its way
    bool held = false;                // its request stays unanswered (hang)
  };
  using SessionPlace = std::list<Session>::iterator;
  struct Request {
    unsigned http_version;
    bool keep_alive;
    bool head;
  };

  void accepted(boost::asio::ip::tcp::socket socket);
  boost::asio::awaitable<void> run_session(SessionPlace session);

  // Whether the connection may carry another request.
  boost::asio::awaitable<bool> answer(Session& session, Request request);

  // The status that a request has earned, when its time of service is over.
  boost::asio::awaitable<unsigned> work(Session& session);
  boost::asio::awaitable<void> cross_zones(Session& session);
  boost::asio::awaitable<void> hold_until_client_leaves(Session& session);
  boost::asio::awaitable<bool> write(Session& session, Request request, unsigned status);
  std::chrono::nanoseconds draw_service_time();
  Result<> set_deaf(bool deaf);
  void close_held();

  boost::asio::io_context& io_;
  BackendOptions options_;
  Random service_random_;
  Random error_random_;
  Fault fault_;
  bool stopping_ = false;
  WorkQueue work_queue_;
  std::list<Session> sessions_;
  boost::asio::steady_timer blackhole_over_;  // answers wait for its cancel()
  std::string body_;
  std::uint64_t requests_ = 0;
  std::uint64_t request_body_bytes_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t client_left_ = 0;
  std::uint64_t given_up_ = 0;
  std::map<unsigned, std::uint64_t> by_status_;
  Listeners listeners_;
};

}  // namespace petrel::traffic
