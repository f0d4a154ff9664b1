// SPDX-License-Identifier: MIT
// ControlServer: a Unix stream socket that takes one JSON object a line and answers with one.
//
// {"command": "stats"}                                     -> {"ok": true, ...}
// {"command": "fault", "kind": "slow", "factor": 10}       -> {"ok": true}
// anything that cannot be done                             -> {"ok": false, "error": "..."}
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/json/object.hpp>
#include <functional>
#include <list>
#include <string>

#include "base/error.hpp"

namespace petrel::traffic {

class ControlServer {
 public:
  // What an answer has besides "ok".
  using Handler = std::function<Result<boost::json::object>(const boost::json::object&)>;

  ControlServer(boost::asio::io_context& io, std::string path, Handler handler);

  // A socket left behind by a dead process is replaced; one that answers is a conflict.
  Result<> start();

  // Closes all and removes the socket's file.
  void stop();

 private:
  using Protocol = boost::asio::local::stream_protocol;
  using Sockets = std::list<Protocol::socket>;

  boost::asio::awaitable<void> accept_loop();
  boost::asio::awaitable<void> run_session(Sockets::iterator socket);
  std::string answer_to(std::string_view line) const;

  boost::asio::io_context& io_;
  std::string path_;
  Handler handler_;
  Protocol::acceptor acceptor_;
  Sockets sockets_;
};

}  // namespace petrel::traffic
