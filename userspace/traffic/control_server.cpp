// SPDX-License-Identifier: MIT
#include "traffic/control_server.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>

#include "traffic/rethrow.hpp"

namespace petrel::traffic {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kLongestLineBytes = 64 * 1024;
constexpr std::chrono::milliseconds kAcceptRetry{10};

}  // namespace

ControlServer::ControlServer(asio::io_context& io, std::string path, Handler handler)
    : io_(io), path_(std::move(path)), handler_(std::move(handler)), acceptor_(io) {}

Result<> ControlServer::start() {
  const std::string what = "control socket " + path_;
  // sun_path holds 108 bytes, its zero included; Asio throws on longer ones.
  if (path_.size() > 107) return Error(ExitCode::kUsage, what + ": longer than 107 bytes");

  boost::system::error_code ec;
  struct stat found {};
  if (::lstat(path_.c_str(), &found) == 0) {
    if (!S_ISSOCK(found.st_mode)) return Error(ExitCode::kConflict, what + ": exists, no socket");
    Protocol::socket probe(io_);
    if (probe.connect(Protocol::endpoint(path_), ec); !ec) {
      return Error(ExitCode::kConflict, what + ": another process answers there");
    }
    ::unlink(path_.c_str());
  }

  if (acceptor_.open(Protocol(), ec); ec) return Error::from_errno(ec.value(), what);
  // Before bind() gives it a name: whoever may connect can break the backend.
  ::fchmod(acceptor_.native_handle(), S_IRUSR | S_IWUSR);
  if (acceptor_.bind(Protocol::endpoint(path_), ec); ec) return Error::from_errno(ec.value(), what);
  if (acceptor_.listen(Protocol::acceptor::max_listen_connections, ec); ec) {
    return Error::from_errno(ec.value(), what);
  }
  asio::co_spawn(io_, accept_loop(), kRethrow);
  return {};
}

void ControlServer::stop() {
  if (!acceptor_.is_open()) return;
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  for (Protocol::socket& socket : sockets_) socket.close(ignored);
  ::unlink(path_.c_str());
}

asio::awaitable<void> ControlServer::accept_loop() {
  while (acceptor_.is_open()) {
    Protocol::socket socket(io_);
    const auto [ec] = co_await acceptor_.async_accept(socket, kTuple);
    if (!acceptor_.is_open()) co_return;
    if (ec) {  // out of descriptors: some will be given back
      asio::steady_timer pause(io_, kAcceptRetry);
      co_await pause.async_wait(kTuple);
      continue;
    }
    sockets_.push_back(std::move(socket));
    asio::co_spawn(io_, run_session(std::prev(sockets_.end())), kRethrow);
  }
}

asio::awaitable<void> ControlServer::run_session(Sockets::iterator socket) {
  std::string input;
  for (;;) {
    const auto [read_ec, line_bytes] = co_await asio::async_read_until(
        *socket, asio::dynamic_buffer(input, kLongestLineBytes), '\n', kTuple);
    if (read_ec) break;
    const std::string output = answer_to(std::string_view(input).substr(0, line_bytes)) + "\n";
    input.erase(0, line_bytes);
    const auto [write_ec, written] =
        co_await asio::async_write(*socket, asio::buffer(output), kTuple);
    if (write_ec) break;
  }
  sockets_.erase(socket);
}

std::string ControlServer::answer_to(std::string_view line) const {
  const auto failed = [](const std::string& why) {
    return json::serialize(json::object{{"ok", false}, {"error", why}});
  };
  boost::system::error_code ec;
  const json::value request = json::parse(json::string_view(line.data(), line.size()), ec);
  if (ec) return failed("no JSON: " + ec.message());
  if (!request.is_object()) return failed("expected a JSON object");
  const auto result = handler_(request.get_object());
  if (!result) return failed(result.error().message());
  json::object answer{{"ok", true}};
  for (const auto& [key, value] : *result) answer[key] = value;
  return json::serialize(answer);
}

}  // namespace petrel::traffic
