// SPDX-License-Identifier: MIT
// Work that would hold up the loop, on a thread of its own.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <type_traits>
#include <utility>

namespace petrel {

// Runs `work` on the pool, and goes on here with its result. It captures references and numbers only:
// of a closure with a copy of the configuration, made in the co_await itself, GCC 12 made a crash.
template <class Work, class Answer = std::invoke_result_t<Work>>
boost::asio::awaitable<Answer> run_beside(boost::asio::thread_pool& pool, Work work) {
  static_assert(std::is_trivially_copyable_v<Work>);
  // co_spawn() makes an empty answer for an exception: a Result cannot be one.
  auto task = [](Work job) -> boost::asio::awaitable<std::optional<Answer>> { co_return job(); };
  auto done = co_await boost::asio::co_spawn(pool, task(std::move(work)), boost::asio::use_awaitable);
  co_return std::move(*done);
}

}  // namespace petrel
