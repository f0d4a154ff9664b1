// SPDX-License-Identifier: MIT
#include "tap/lease.hpp"

#include <poll.h>

#include <array>
#include <boost/asio/error.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>

namespace petrel::tap {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostText = 4u << 20;  // names of 4,096 backends take a tenth of it

}  // namespace

Result<std::unique_ptr<Lease>> Lease::take(const std::string& socket_path,
                                           const std::string& target,
                                           std::chrono::milliseconds deadline) {
  std::unique_ptr<Lease> lease(new Lease(socket_path));
  if (auto asked = lease->ask(target); !asked) return asked.error();
  const auto line = lease->first_line(deadline);
  if (!line) return line.error();
  auto names = Names::parse(*line);
  if (!names) return names.error();
  lease->names_ = std::move(*names);
  return lease;
}

Result<void> Lease::ask(const std::string& target) {
  boost::system::error_code error;
  socket_.connect(socket_path_, error);
  if (error) return unreachable(error);
  http::request<http::empty_body> request{http::verb::get, target, 11};
  request.set(http::field::host, "petrel");
  http::write(socket_, request, error);
  if (!error) socket_.non_blocking(true, error);
  if (error) return unreachable(error);
  parser_.body_limit(boost::none);
  return {};
}

Result<std::string> Lease::first_line(std::chrono::milliseconds deadline) {
  const auto end = Clock::now() + deadline;
  for (;;) {
    if (auto read = read_pending(); !read) return read.error();
    const bool refused = parser_.is_header_done() && parser_.get().result_int() != 200;
    if (refused && parser_.is_done()) return refusal();
    const auto newline = text_.find('\n');
    if (!refused && newline != std::string::npos) return text_.substr(0, newline);
    if (parser_.is_done()) return Error(ExitCode::kRuntime, "the agent ended the tap at once");
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) {
      return Error(ExitCode::kUnreachable, "switch the tap on: the agent at " + socket_path_ +
                                               " did not answer within " +
                                               std::to_string(deadline.count()) + " ms");
    }
    pollfd waiting{socket_.native_handle(), POLLIN, 0};
    ::poll(&waiting, 1, static_cast<int>(left.count()));
  }
}

bool Lease::ended() {
  return !read_pending() || parser_.is_done();
}

// All that has come so far. Of what follows the first line only the end matters.
Result<void> Lease::read_pending() {
  std::array<char, 4096> chunk{};
  while (!parser_.is_done()) {
    boost::system::error_code error;
    auto& body = parser_.get().body();
    body.data = chunk.data();
    body.size = chunk.size();
    http::read_some(socket_, buffer_, parser_, error);
    if (text_.size() < kMostText) text_.append(chunk.data(), chunk.size() - body.size);
    if (error == asio::error::would_block) return {};
    if (error && error != http::error::need_buffer) return unreachable(error);
  }
  return {};
}

Error Lease::unreachable(const boost::system::error_code& error) const {
  const bool by_number = error.category() == boost::system::system_category();
  return Error(
      ExitCode::kUnreachable,
      "reach the agent at " + socket_path_ + ": " +
          (by_number ? errno_name(error.value()) + " (" + error.message() + ")" : error.message()) +
          ": is `petrel agent` running with this socket?");
}

// {"error": "...", "exit_code": 7}
Error Lease::refusal() const {
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse(text_, error);
  if (!error && value.is_object()) {
    const auto* reason = value.as_object().if_contains("error");
    const auto* code = value.as_object().if_contains("exit_code");
    const auto kind = code != nullptr && code->is_int64() ? static_cast<ExitCode>(code->as_int64())
                                                          : ExitCode::kRuntime;
    if (reason != nullptr && reason->is_string()) return Error(kind, reason->as_string().c_str());
  }
  return Error(ExitCode::kRuntime,
               "the agent answered with status " + std::to_string(parser_.get().result_int()));
}

}  // namespace petrel::tap
