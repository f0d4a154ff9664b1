// SPDX-License-Identifier: MIT
#include "traffic/work_queue.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace petrel::traffic {

namespace asio = boost::asio;

namespace {
constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
}

asio::awaitable<Served> WorkQueue::serve(std::function<std::chrono::nanoseconds()> draw) {
  if (stopped_) co_return Served::kStopped;
  Timer timer(io_);
  if (busy_ < slots_) {
    ++busy_;
    timers_.insert(&timer);
  } else {
    if (queue_.size() >= capacity_) co_return Served::kQueueFull;
    timers_.insert(&timer);
    queue_.push_back(&timer);
    timer.expires_at(Timer::time_point::max());
    co_await timer.async_wait(kTuple);
    // Woken by release(), which left its slot busy for us, or by stop().
  }

  if (!stopped_) {
    timer.expires_after(draw());
    co_await timer.async_wait(kTuple);
  }
  timers_.erase(&timer);
  if (stopped_) co_return Served::kStopped;
  release();
  co_return Served::kDone;
}

void WorkQueue::release() {
  if (queue_.empty()) {
    --busy_;
    return;
  }
  Timer* next = queue_.front();
  queue_.pop_front();
  next->cancel();
}

void WorkQueue::stop() {
  stopped_ = true;
  queue_.clear();
  for (Timer* timer : timers_) timer->cancel();
}

}  // namespace petrel::traffic
