// SPDX-License-Identifier: MIT
// LineStream: lines on their way to one slow reader. Bounded; what does not fit is counted, not kept.
// Producer and consumer run on the same strand.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <string>
#include <string_view>

namespace petrel {

class LineStream {
 public:
  explicit LineStream(const boost::asio::any_io_executor& executor,
                      std::size_t max_bytes = 16u << 20);

  // Appends the line and a newline; dropped and counted when the reader is max_bytes behind.
  void push(std::string_view line);

  // No more lines come: next() returns what is left, then "".
  void finish();

  // All lines so far; waits for some. "" at the end.
  boost::asio::awaitable<std::string> next();

  std::uint64_t dropped_lines() const { return dropped_lines_; }

 private:
  boost::asio::steady_timer wake_;  // used as a condition: cancelled when there is something
  std::size_t max_bytes_;
  std::string pending_;
  bool finished_ = false;
  std::uint64_t dropped_lines_ = 0;
};

}  // namespace petrel
