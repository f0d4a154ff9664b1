// SPDX-License-Identifier: MIT
#include "api/client.hpp"

#include <poll.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>
#include <cctype>
#include <cstring>

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

Result<void> send(http::verb verb, UnixSocket::socket& socket, const std::string& path,
                  const std::string& target) {
  boost::system::error_code error;
  socket.connect(UnixSocket::endpoint(path), error);
  if (error) return unreachable(path, error);
  http::request<http::empty_body> request{verb, target, 11};
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
    const auto* code = value.as_object().if_contains("exit_code");
    const auto kind = code != nullptr && code->is_int64()
                          ? static_cast<ExitCode>(code->as_int64())
                          : ExitCode::kRuntime;
    if (text.is_string()) return Error(kind, text.as_string().c_str());
  }
  return Error(ExitCode::kRuntime, "the agent answered with status " + std::to_string(status));
}

// True when the socket can be read within 200 ms.
bool wait_readable(UnixSocket::socket& socket) {
  pollfd waiting{socket.native_handle(), POLLIN, 0};
  return ::poll(&waiting, 1, 200) > 0;
}

Result<std::string> ask(http::verb verb, const std::string& socket_path,
                        const std::string& target) {
  asio::io_context context;
  UnixSocket::socket socket(context);
  if (auto sent = send(verb, socket, socket_path, target); !sent) return sent.error();
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

}  // namespace

Result<std::string> api_get(const std::string& socket_path, const std::string& target) {
  return ask(http::verb::get, socket_path, target);
}

Result<std::string> api_post(const std::string& socket_path, const std::string& target) {
  return ask(http::verb::post, socket_path, target);
}

std::string percent_encode(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || std::strchr("-._~", c) != nullptr) {
      out.push_back(c);
    } else {
      constexpr const char* kDigits = "0123456789ABCDEF";
      const auto byte = static_cast<unsigned char>(c);
      out.append({'%', kDigits[byte >> 4], kDigits[byte & 15]});
    }
  }
  return out;
}

Result<void> api_stream(const std::string& socket_path, const std::string& target,
                        const std::function<void(std::string_view)>& piece,
                        const std::function<bool()>& keep_going) {
  asio::io_context context;
  UnixSocket::socket socket(context);
  if (auto sent = send(http::verb::get, socket, socket_path, target); !sent) return sent.error();
  boost::beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  boost::system::error_code error;
  http::read_header(socket, buffer, parser, error);
  if (error) return unreachable(socket_path, error);
  std::string chunk(64u << 10, '\0');
  if (parser.get().result_int() != 200) {
    parser.get().body().data = chunk.data();
    parser.get().body().size = chunk.size();
    http::read(socket, buffer, parser, error);  // a refusal is short: what more there is is left
    chunk.resize(chunk.size() - parser.get().body().size);
    return refusal(parser.get().result_int(), chunk);
  }
  // What the buffer holds may be part of a chunk: reading on must not wait for the rest.
  socket.non_blocking(true, error);
  if (error) return unreachable(socket_path, error);
  bool starved = false;
  while (!parser.is_done() && keep_going()) {
    if (starved && !wait_readable(socket)) continue;
    parser.get().body().data = chunk.data();
    parser.get().body().size = chunk.size();
    http::read_some(socket, buffer, parser, error);
    starved = error == asio::error::would_block;
    if (starved || error == http::error::need_buffer) error = {};
    if (error) return unreachable(socket_path, error);
    piece(std::string_view(chunk.data(), chunk.size() - parser.get().body().size));
  }
  return {};
}

}  // namespace petrel
