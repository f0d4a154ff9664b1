// SPDX-License-Identifier: MIT
#include "api/client.hpp"

#include <poll.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>

namespace petrel {
namespace asio = boost::asio;
namespace http = boost::beast::http;
using UnixSocket = asio::local::stream_protocol;

namespace {

Error unreachable(const std::string& path, const boost::system::error_code& error) {
  return Error(ExitCode::kUnreachable, "reach the agent at " + path + ": " +
                                           errno_name(error.value()) + " (" + error.message() +
                                           "): is `petrel agent` running with this socket?");
}

Result<void> send_get(UnixSocket::socket& socket, const std::string& path,
                      const std::string& target) {
  boost::system::error_code error;
  socket.connect(UnixSocket::endpoint(path), error);
  if (error) return unreachable(path, error);
  http::request<http::empty_body> request{http::verb::get, target, 11};
  request.set(http::field::host, "petrel");
  http::write(socket, request, error);
  if (error) return unreachable(path, error);
  return {};
}

Error refusal(unsigned status, const std::string& body) {
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse(body, error);
  if (!error && value.is_object() && value.as_object().contains("error")) {
    const auto& text = value.as_object().at("error");
    if (text.is_string()) return Error(ExitCode::kRuntime, text.as_string().c_str());
  }
  return Error(ExitCode::kRuntime, "the agent answered with status " + std::to_string(status));
}

// True when the socket can be read within 200 ms.
bool wait_readable(UnixSocket::socket& socket) {
  pollfd waiting{socket.native_handle(), POLLIN, 0};
  return ::poll(&waiting, 1, 200) > 0;
}

}  // namespace

Result<std::string> api_get(const std::string& socket_path, const std::string& target) {
  asio::io_context context;
  UnixSocket::socket socket(context);
  if (auto sent = send_get(socket, socket_path, target); !sent) return sent.error();
  boost::beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(256u << 20);
  boost::system::error_code error;
  http::read(socket, buffer, parser, error);
  if (error) return unreachable(socket_path, error);
  const auto& response = parser.get();
  if (response.result_int() != 200) return refusal(response.result_int(), response.body());
  return response.body();
}

Result<void> api_stream(const std::string& socket_path, const std::string& target,
                        const std::function<void(std::string_view)>& piece,
                        const std::function<bool()>& keep_going) {
  asio::io_context context;
  UnixSocket::socket socket(context);
  if (auto sent = send_get(socket, socket_path, target); !sent) return sent.error();
  boost::beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  boost::system::error_code error;
  http::read_header(socket, buffer, parser, error);
  if (error) return unreachable(socket_path, error);
  if (parser.get().result_int() != 200) {
    return Error(ExitCode::kRuntime, "the agent refused " + target);
  }
  std::string chunk(64u << 10, '\0');
  while (!parser.is_done() && keep_going()) {
    if (buffer.size() == 0 && !wait_readable(socket)) continue;
    parser.get().body().data = chunk.data();
    parser.get().body().size = chunk.size();
    http::read_some(socket, buffer, parser, error);
    if (error == http::error::need_buffer) error = {};
    if (error) return unreachable(socket_path, error);
    piece(std::string_view(chunk.data(), chunk.size() - parser.get().body().size));
  }
  return {};
}

}  // namespace petrel
