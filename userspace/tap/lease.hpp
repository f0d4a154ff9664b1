// SPDX-License-Identifier: MIT
// Lease: the connection to the agent that keeps the tap switched on. It ends with this object, or
// with the process, or with the agent. Not thread-safe.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <chrono>
#include <memory>
#include <string>

#include "base/error.hpp"
#include "tap/names.hpp"

namespace petrel::tap {

class Lease {
 public:
  // GET `target` at the agent's socket; waits for the stream's first line: then the tap is on.
  // The agent's refusal is given with its reason.
  static Result<std::unique_ptr<Lease>> take(const std::string& socket_path,
                                             const std::string& target,
                                             std::chrono::milliseconds deadline);

  const Names& names() const { return names_; }

  // The agent has gone, or has ended the tap. Does not wait.
  bool ended();

 private:
  explicit Lease(std::string socket_path) : socket_path_(std::move(socket_path)) {}

  Result<void> ask(const std::string& target);
  Result<std::string> first_line(std::chrono::milliseconds deadline);
  Result<void> read_pending();
  Error unreachable(const boost::system::error_code& error) const;
  Error refusal() const;

  std::string socket_path_;
  Names names_;
  boost::asio::io_context context_;
  boost::asio::local::stream_protocol::socket socket_{context_};
  boost::beast::flat_buffer buffer_;
  boost::beast::http::response_parser<boost::beast::http::buffer_body> parser_;
  std::string text_;  // the stream, up to its first line's end
};

}  // namespace petrel::tap
