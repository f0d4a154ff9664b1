// SPDX-License-Identifier: MIT
// TapReader: the records of the map `taps`, a perf buffer a CPU.
//
// One reader at a time: opening a second one takes the map's slots from the first. Not thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/error.hpp"
#include "tap/sample.hpp"

struct perf_buffer;

namespace petrel::tap {

class TapReader {
 public:
  using OnSample = std::function<void(Sample)>;

  // The pinned map. Buffers are in place when it returns.
  static Result<TapReader> open(const std::string& pinned_map, OnSample on_sample);
  static Result<TapReader> open_fd(int map_fd, OnSample on_sample);

  TapReader(TapReader&&) noexcept;
  TapReader& operator=(TapReader&&) noexcept;
  ~TapReader();

  // Waits until a buffer is a quarter full or the time is up, then hands over all there is.
  Result<void> poll(std::chrono::milliseconds timeout);

  std::uint64_t lost() const;  // records that found their buffer full

 private:
  struct State;
  explicit TapReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace petrel::tap
