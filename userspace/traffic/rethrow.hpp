// SPDX-License-Identifier: MIT
// What ends a coroutine by an exception ends the program: never asio::detached, which hides it.
#pragma once

#include <exception>

namespace petrel::traffic {

// For co_spawn: lets the exception out of io_context::run(), where main() reports it.
inline constexpr auto kRethrow = [](std::exception_ptr error) {
  if (error) std::rethrow_exception(error);
};

}  // namespace petrel::traffic
