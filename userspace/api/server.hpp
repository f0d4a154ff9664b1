// SPDX-License-Identifier: MIT
// ApiServer: the agent's HTTP/1.1 API on a Unix socket (mode 0600: whoever may open it is root).
//
// Answers GET and POST requests by a coroutine that runs on the agent's strand, so that it sees
// consistent state between its waits; it may answer with a stream of lines, sent chunked until either
// side ends it. A POST changes something; its arguments are in the query, as a GET's.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "api/line_stream.hpp"
#include "base/error.hpp"
#include "base/unique_fd.hpp"

namespace petrel {

struct ApiRequest {
  bool is_post = false;
  std::string path;                          // "/v1/status"
  std::map<std::string, std::string> query;  // decoded
  std::uint32_t peer_uid = ~0U;              // of the process at the other end (SO_PEERCRED)
};

struct ApiReply {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::shared_ptr<LineStream> stream;  // if set, body is not used
};

class ApiServer {
 public:
  using Handler = std::function<boost::asio::awaitable<ApiReply>(ApiRequest)>;

  // Takes the socket's lock first: kConflict if another agent holds it.
  static Result<std::unique_ptr<ApiServer>> open(const boost::asio::any_io_executor& executor,
                                                 const std::string& path, Handler handler);
  ~ApiServer();  // removes the socket

  // Accepts until stop(); each connection is served by a coroutine of its own.
  boost::asio::awaitable<void> serve();
  void stop();

 private:
  ApiServer(const boost::asio::any_io_executor& executor, std::string path, Handler handler);
  boost::asio::awaitable<void> serve_connection(boost::asio::local::stream_protocol::socket socket);

  std::string path_;
  Handler handler_;
  UniqueFd lock_;
  boost::asio::local::stream_protocol::acceptor acceptor_;
};

// "/v1/explain?backend=b1&service=web" in parts, percent-decoded.
ApiRequest parse_target(std::string_view target);

}  // namespace petrel
