// SPDX-License-Identifier: MIT
#include "traffic/control_client.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>

#include "traffic/rethrow.hpp"

namespace petrel::traffic {

namespace asio = boost::asio;
namespace json = boost::json;
using Protocol = asio::local::stream_protocol;
using boost::system::error_code;

namespace {

constexpr std::chrono::seconds kPatience{5};

// Leaves the answer in line, or what went wrong in ec.
asio::awaitable<void> converse(Protocol::socket& socket, Protocol::endpoint endpoint,
                               std::string question, std::string& line, error_code& ec) {
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  co_await socket.async_connect(endpoint, token);
  if (ec) co_return;
  co_await asio::async_write(socket, asio::buffer(question), token);
  if (ec) co_return;
  co_await asio::async_read_until(socket, asio::dynamic_buffer(line), '\n', token);
}

Result<json::object> check_answer(const std::string& line) {
  error_code ec;
  const json::value answer = json::parse(line, ec);
  const json::value* ok = nullptr;
  if (!ec && answer.is_object()) ok = answer.get_object().if_contains("ok");
  if (ok == nullptr || !ok->is_bool()) {
    return Error(ExitCode::kUnreachable, "what answers there is no petrel-traffic backend");
  }
  if (!ok->get_bool()) {
    const json::value* why = answer.get_object().if_contains("error");
    return Error(ExitCode::kRuntime, why != nullptr && why->is_string()
                                         ? std::string(std::string_view(why->get_string()))
                                         : "refused without a reason");
  }
  // Not erase(): that would put the last member in the place of "ok".
  json::object object;
  for (const auto& [key, value] : answer.get_object()) {
    if (key != "ok") object[key] = value;
  }
  return object;
}

}  // namespace

Result<json::object> ask(const std::string& control_path, const json::object& request) {
  const std::string what = "ask backend at " + control_path;
  // sun_path holds 108 bytes, its zero included; Asio throws on longer ones.
  if (control_path.size() > 107) return Error(ExitCode::kUsage, what + ": longer than 107 bytes");

  std::string line;
  // Stands when the time is over before the conversation has said anything else.
  error_code ec = asio::error::timed_out;
  asio::io_context io;
  Protocol::socket socket(io);
  bool ended = false;
  asio::co_spawn(
      io,
      converse(socket, Protocol::endpoint(control_path), json::serialize(request) + "\n", line, ec),
      [&ended](std::exception_ptr error) {
        ended = true;
        kRethrow(error);
      });
  io.run_for(kPatience);
  if (!ended) ec = asio::error::timed_out;
  if (ec) {
    const std::string why = Error::from_errno(ec.value(), what).message();
    const bool system = ec.category() == boost::system::system_category();
    return Error(ExitCode::kUnreachable,
                 (system ? why : what + ": " + ec.message()) + ": is the backend running there?");
  }
  auto answer = check_answer(line);
  if (!answer) return answer.error().within(what);
  return answer;
}

}  // namespace petrel::traffic
