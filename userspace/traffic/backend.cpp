// SPDX-License-Identifier: MIT
#include "traffic/backend.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>

#include "traffic/packet_filter.hpp"
#include "traffic/rethrow.hpp"

namespace petrel::traffic {

namespace asio = boost::asio;
namespace http = boost::beast::http;
namespace json = boost::json;
using tcp = asio::ip::tcp;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

// Clients that vanished without a FIN (during a blackhole) are found by the kernel's keepalive.
void set_socket_options(tcp::socket& socket) {
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
}

// Closed with a linger time of 0, a socket sends RST in place of FIN.
void reset(tcp::socket& socket) {
  boost::system::error_code ignored;
  socket.set_option(asio::socket_base::linger(true, 0), ignored);
  socket.close(ignored);
}

// Backends started alike but for their names must not draw the same service times, or they would
// all be slow together. (FNV-1a.)
std::uint64_t seed_of(const BackendOptions& options) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char c : options.name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  }
  return hash ^ options.seed;
}

// A client that has sent FIN or RST. (A half-closed one would count as well; ours never do that.)
bool has_left(tcp::socket& socket) {
  char byte = 0;
  const auto got = ::recv(socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK);
}

// A client, or a balancer for it, has sent RST: an event loop hears of that while the request waits.
bool was_reset(tcp::socket& socket) {
  pollfd events{socket.native_handle(), 0, 0};
  return ::poll(&events, 1, 0) > 0 && (events.revents & POLLERR) != 0;
}

}  // namespace

Backend::Backend(asio::io_context& io, BackendOptions options)
    : io_(io),
      options_(std::move(options)),
      service_random_(seed_of(options_), Stream::kServiceTimes),
      error_random_(seed_of(options_), Stream::kErrors),
      work_queue_(io, options_.concurrency, options_.queue),
      blackhole_over_(io, asio::steady_timer::time_point::max()),
      body_(options_.body_bytes, 'x'),
      listeners_(io, options_.listen, [this](tcp::socket socket) { accepted(std::move(socket)); }) {
  if (!body_.empty()) body_.back() = '\n';
}

void Backend::stop() {
  stopping_ = true;
  listeners_.close();
  work_queue_.stop();
  blackhole_over_.cancel();
  boost::system::error_code ignored;
  for (Session& session : sessions_) {
    session.delay.cancel();
    session.socket.close(ignored);
  }
}

Result<> Backend::apply(const Fault& fault) {
  const FaultKind before = fault_.kind;
  if (before == FaultKind::kRefuse && fault.kind != FaultKind::kRefuse) {
    if (auto opened = listeners_.open(); !opened) return opened.error().within("end refuse");
  }
  if (fault.kind == FaultKind::kRefuse) listeners_.close();

  const bool deaf = fault.kind == FaultKind::kBlackhole;
  if (deaf || before == FaultKind::kBlackhole) {
    if (auto result = set_deaf(deaf); !result) return result;
  }
  fault_ = fault;
  // Only after fault_ has changed: those who are woken look at it.
  if (before == FaultKind::kBlackhole && !deaf) blackhole_over_.cancel();
  // Not in a blackhole, where no FIN would arrive: then at its end.
  if (fault.kind != FaultKind::kHang && !deaf) close_held();
  return {};
}

json::object Backend::stats() const {
  json::object by_status;
  for (const auto& [status, count] : by_status_) by_status[std::to_string(status)] = count;
  json::object object;
  object["schema"] = "petrel/backend-stats/v1";
  object["name"] = options_.name;
  object["fault"] = to_json(fault_);
  object["connections"] = sessions_.size();
  object["requests"] = requests_;
  object["request_body_bytes"] = request_body_bytes_;
  object["answered"] = answered_;
  object["client_left"] = client_left_;  // whose answer was for nobody
  object["given_up"] = given_up_;  // of these: not worked on, for a RST had come before their turn
  object["held"] = std::count_if(sessions_.begin(), sessions_.end(),
                                 [](const Session& session) { return session.held; });
  // Requests let in and still worked for: those in a slot and those that wait for one.
  object["in_service"] = work_queue_.busy() + work_queue_.queued();
  object["queued"] = work_queue_.queued();
  object["busy_slots"] = work_queue_.busy();
  object["slots"] = work_queue_.slots();
  object["by_status"] = by_status;
  return object;
}

void Backend::accepted(tcp::socket socket) {
  if (fault_.kind == FaultKind::kReset) {
    reset(socket);
    return;
  }
  // Its handshake was over before the blackhole began, so it has no filter from its listener. If
  // it cannot be made deaf its client is at most answered late: answers are held back anyway.
  if (fault_.kind == FaultKind::kBlackhole) static_cast<void>(drop_packets(socket.native_handle()));
  set_socket_options(socket);
  sessions_.push_back(Session{.socket = std::move(socket), .delay = asio::steady_timer(io_)});
  asio::co_spawn(io_, run_session(std::prev(sessions_.end())), kRethrow);
}

asio::awaitable<void> Backend::run_session(SessionPlace session) {
  boost::beast::flat_buffer buffer;
  bool more = true;
  while (more && !stopping_) {
    http::request_parser<http::string_body> parser;
    const auto [ec, bytes] = co_await http::async_read(session->socket, buffer, parser, kTuple);
    if (ec) break;  // the client has left, or what it sent is no HTTP: close either way
    ++requests_;
    request_body_bytes_ += parser.get().body().size();
    const Request request{.http_version = parser.get().version(),
                          .keep_alive = parser.get().keep_alive(),
                          .head = parser.get().method() == http::verb::head};
    more = co_await answer(*session, request);
  }
  sessions_.erase(session);
}

asio::awaitable<bool> Backend::answer(Session& session, Request request) {
  if (fault_.kind == FaultKind::kReset) {
    reset(session.socket);
    co_return false;
  }
  unsigned status = 0;
  if (fault_.kind != FaultKind::kHang) {
    status = co_await work(session);
    if (options_.added_delay.count() > 0) co_await cross_zones(session);
  }
  // Much may have changed while it was worked on. A server that hangs answers nothing, what it had
  // begun before included.
  if (fault_.kind == FaultKind::kHang && !stopping_) {
    co_await hold_until_client_leaves(session);
    co_return false;
  }
  while (fault_.kind == FaultKind::kBlackhole && !stopping_) {
    co_await blackhole_over_.async_wait(kTuple);
  }
  if (stopping_) co_return false;
  co_return co_await write(session, request, status);
}

asio::awaitable<unsigned> Backend::work(Session& session) {
  const bool fails = fault_.kind == FaultKind::kErrors && error_random_.uniform() < fault_.rate;
  const unsigned status = fails ? fault_.status : 200;
  if (fails && fault_.quick) co_return status;
  const Served served = co_await work_queue_.serve([this, &session] {
    if (!was_reset(session.socket)) return draw_service_time();
    ++given_up_;
    return std::chrono::nanoseconds(0);
  });
  co_return served == Served::kQueueFull ? 503 : status;
}

asio::awaitable<void> Backend::cross_zones(Session& session) {
  if (stopping_) co_return;
  session.delay.expires_after(options_.added_delay);
  co_await session.delay.async_wait(kTuple);
}

asio::awaitable<void> Backend::hold_until_client_leaves(Session& session) {
  session.held = true;
  // Reading notices a client that leaves; further requests of its own are read and forgotten.
  std::array<char, 1024> scratch{};
  for (;;) {
    const auto [ec, bytes] = co_await session.socket.async_read_some(asio::buffer(scratch), kTuple);
    if (ec) co_return;
  }
}

asio::awaitable<bool> Backend::write(Session& session, Request request, unsigned status) {
  if (has_left(session.socket)) {
    ++client_left_;
    co_return false;
  }
  http::response<http::string_body> response{http::int_to_status(status), request.http_version};
  response.set("X-Backend", options_.name);
  response.set(http::field::content_type, "text/plain");
  response.keep_alive(request.keep_alive);
  response.body() = body_;
  response.prepare_payload();
  if (request.head) response.body().clear();  // its length is told all the same
  const auto [ec, bytes] = co_await http::async_write(session.socket, response, kTuple);
  if (ec) {
    ++client_left_;
    co_return false;
  }
  ++answered_;
  ++by_status_[status];
  co_return request.keep_alive;
}

std::chrono::nanoseconds Backend::draw_service_time() {
  const auto time = options_.service_time.draw(service_random_);
  if (fault_.kind != FaultKind::kSlow) return time;
  return std::chrono::nanoseconds(
      static_cast<std::int64_t>(static_cast<double>(time.count()) * fault_.factor));
}

Result<> Backend::set_deaf(bool deaf) {
  if (auto result = listeners_.set_deaf(deaf); !result) return result;
  for (Session& session : sessions_) {
    const int fd = session.socket.native_handle();
    if (auto result = deaf ? drop_packets(fd) : pass_packets(fd); !result) return result;
  }
  return {};
}

// Connections whose request was held are closed (FIN) when a hang ends: the answer they waited for
// is lost, as it would be with the restart of a server that had hung.
void Backend::close_held() {
  boost::system::error_code ignored;
  for (Session& session : sessions_) {
    if (session.held) session.socket.close(ignored);
  }
}

}  // namespace petrel::traffic
