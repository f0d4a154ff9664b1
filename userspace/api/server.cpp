// SPDX-License-Identifier: MIT
#include "api/server.hpp"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <filesystem>

namespace petrel {
namespace asio = boost::asio;
namespace http = boost::beast::http;
using UnixSocket = asio::local::stream_protocol;

namespace {

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);

std::string percent_decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto is_hex = [&](std::size_t at) { return at < text.size() && std::isxdigit(text[at]); };
    if (text[i] == '%' && is_hex(i + 1) && is_hex(i + 2)) {
      out.push_back(static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16)));
      i += 2;
    } else {
      out.push_back(text[i] == '+' ? ' ' : text[i]);
    }
  }
  return out;
}

// A chunked answer of unknown length; ends when the stream does or the reader leaves.
asio::awaitable<void> send_stream(UnixSocket::socket& socket, const ApiReply& reply) {
  http::response<http::empty_body> head{http::status::ok, 11};
  head.set(http::field::content_type, reply.content_type);
  head.chunked(true);
  http::response_serializer<http::empty_body> serializer{head};
  auto [head_error, head_bytes] = co_await http::async_write_header(socket, serializer, kAsTuple);
  if (head_error) co_return;
  for (;;) {
    const std::string lines = co_await reply.stream->next();
    if (lines.empty()) break;
    auto [error, bytes] =
        co_await asio::async_write(socket, http::make_chunk(asio::buffer(lines)), kAsTuple);
    if (error) co_return;
  }
  co_await asio::async_write(socket, http::make_chunk_last(), kAsTuple);
}

// Who has connected, as the kernel says; ~0 where it does not.
std::uint32_t peer_uid(UnixSocket::socket& socket) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  const int rc = ::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &length);
  return rc == 0 ? peer.uid : ~0U;
}

}  // namespace

ApiRequest parse_target(std::string_view target) {
  ApiRequest request;
  const auto question = target.find('?');
  request.path = percent_decode(target.substr(0, question));
  if (question == std::string_view::npos) return request;
  std::string_view rest = target.substr(question + 1);
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    const auto equals = pair.find('=');
    if (equals == std::string_view::npos) continue;
    request.query[percent_decode(pair.substr(0, equals))] = percent_decode(pair.substr(equals + 1));
  }
  return request;
}

ApiServer::ApiServer(const asio::any_io_executor& executor, std::string path, Handler handler)
    : path_(std::move(path)), handler_(std::move(handler)), acceptor_(executor) {}

ApiServer::~ApiServer() {
  if (!acceptor_.is_open()) return;
  ::unlink(path_.c_str());
  ::unlink((path_ + ".lock").c_str());
}

Result<std::unique_ptr<ApiServer>> ApiServer::open(const asio::any_io_executor& executor,
                                                   const std::string& path, Handler handler) {
  std::unique_ptr<ApiServer> server(new ApiServer(executor, path, std::move(handler)));
  std::error_code code;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), code);

  // The lock, not the socket, tells whether an agent lives: it goes with its process.
  const std::string lock_path = path + ".lock";
  server->lock_.reset(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!server->lock_) return Error::from_errno(errno, "open " + lock_path);
  if (::flock(server->lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Error::from_errno(errno, "lock " + lock_path);
    return Error(ExitCode::kConflict, "another agent serves " + path + ": stop it first");
  }
  ::unlink(path.c_str());
  boost::system::error_code error;
  server->acceptor_.open(UnixSocket(), error);
  const mode_t mask = ::umask(0177);
  if (!error) server->acceptor_.bind(UnixSocket::endpoint(path), error);
  ::umask(mask);
  if (!error) server->acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) return Error::from_errno(error.value(), "listen on " + path);
  return server;
}

void ApiServer::stop() {
  boost::system::error_code ignored;
  acceptor_.cancel(ignored);
}

asio::awaitable<void> ApiServer::serve() {
  for (;;) {
    auto [error, socket] = co_await acceptor_.async_accept(kAsTuple);
    if (error == asio::error::operation_aborted) co_return;
    if (error) {
      spdlog::warn("accept on {}: {}", path_, error.message());
      continue;
    }
    asio::co_spawn(acceptor_.get_executor(), serve_connection(std::move(socket)),
                   [](const std::exception_ptr& failure) {
                     if (!failure) return;
                     try {
                       std::rethrow_exception(failure);
                     } catch (const std::exception& thrown) {
                       spdlog::error("API connection: {}", thrown.what());
                     }
                   });
  }
}

asio::awaitable<void> ApiServer::serve_connection(UnixSocket::socket socket) {
  boost::beast::flat_buffer buffer;
  const std::uint32_t uid = peer_uid(socket);
  for (;;) {
    http::request<http::empty_body> request;
    auto [read_error, read_bytes] = co_await http::async_read(socket, buffer, request, kAsTuple);
    if (read_error) co_return;
    ApiReply reply;
    const bool is_post = request.method() == http::verb::post;
    if (is_post || request.method() == http::verb::get) {
      ApiRequest asked = parse_target({request.target().data(), request.target().size()});
      asked.is_post = is_post;
      asked.peer_uid = uid;
      reply = co_await handler_(std::move(asked));
    } else {
      reply = {405, "application/json", R"({"error":"only GET and POST are served"})", nullptr};
    }
    if (reply.stream) {
      co_await send_stream(socket, reply);
      co_return;
    }
    http::response<http::string_body> response{static_cast<http::status>(reply.status), 11};
    response.set(http::field::content_type, reply.content_type);
    response.body() = std::move(reply.body);
    response.keep_alive(request.keep_alive());
    response.prepare_payload();
    auto [write_error, bytes] = co_await http::async_write(socket, response, kAsTuple);
    if (write_error || !request.keep_alive()) co_return;
  }
}

}  // namespace petrel
