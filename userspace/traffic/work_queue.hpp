// SPDX-License-Identifier: MIT
// WorkQueue: a FIFO queue before a limited number of slots, each busy for a time and using no CPU.
//
// A request that has been let in keeps its place and its slot to the end, whether or not its client
// is still there: that is what lets a storm of retries outlive its cause. (Its owner may draw no time
// for one whose connection was reset.)
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <unordered_set>

namespace petrel::traffic {

enum class Served { kDone, kQueueFull, kStopped };

class WorkQueue {
 public:
  WorkQueue(boost::asio::io_context& io, std::size_t slots, std::size_t capacity)
      : io_(io), slots_(slots), capacity_(capacity) {}

  // Waits for a slot, then for as long as draw() says; draw is asked once the slot is there.
  // Answers kQueueFull at once when `capacity` requests wait already.
  boost::asio::awaitable<Served> serve(std::function<std::chrono::nanoseconds()> draw);

  // Ends every wait with kStopped; the queue cannot be used afterwards.
  void stop();

  std::size_t slots() const { return slots_; }
  std::size_t busy() const { return busy_; }
  std::size_t queued() const { return queue_.size(); }

 private:
  using Timer = boost::asio::steady_timer;

  void release();

  boost::asio::io_context& io_;
  std::size_t slots_;
  std::size_t capacity_;
  std::size_t busy_ = 0;
  bool stopped_ = false;
  std::deque<Timer*> queue_;           // each waits for its cancel(), which hands it a slot
  std::unordered_set<Timer*> timers_;  // of all who are in serve(), for stop()
};

}  // namespace petrel::traffic
