// SPDX-License-Identifier: MIT
#include "api/line_stream.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

namespace petrel {
namespace asio = boost::asio;

LineStream::LineStream(const asio::any_io_executor& executor, std::size_t max_bytes)
    : wake_(executor, asio::steady_timer::time_point::max()), max_bytes_(max_bytes) {}

void LineStream::push(std::string_view line) {
  if (pending_.size() + line.size() >= max_bytes_) {
    ++dropped_lines_;
    return;
  }
  pending_.append(line).push_back('\n');
  wake_.cancel();
}

void LineStream::finish() {
  finished_ = true;
  wake_.cancel();
}

asio::awaitable<std::string> LineStream::next() {
  while (pending_.empty() && !finished_) {
    co_await wake_.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  co_return std::exchange(pending_, {});
}

}  // namespace petrel
