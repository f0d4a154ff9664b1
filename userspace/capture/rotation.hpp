// SPDX-License-Identifier: MIT
// CaptureFiles: one capture in one file after the other, each complete by itself.
//
// The files are named for the moment they begin, "capture-20260131T120000.000Z.db"; the oldest ones
// go when there are more than are to be kept, those of earlier runs of the same name among them.
// Without limits there is one file, named as asked for.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "capture/store.hpp"

namespace petrel {

struct RotationLimits {
  std::uint64_t bytes = 0;  // 0: no limit
  std::chrono::nanoseconds age{0};
  unsigned keep = 0;  // files, the one being written among them

  bool rotates() const { return bytes != 0 || age.count() != 0; }
};

class CaptureFiles {
 public:
  using Create = std::function<Result<std::unique_ptr<CaptureSink>>(const std::string& path)>;
  using Time = std::chrono::system_clock::time_point;

  CaptureFiles(std::string path, RotationLimits limits, Create create)
      : path_(std::move(path)), limits_(limits), create_(std::move(create)) {}

  Result<void> open(Time now);
  // What is told of the capture as a whole (table meta) is in each file.
  Result<void> add(const CaptureTable& table, const std::vector<std::string>& fields);
  Result<void> flush() { return sink_->flush(); }
  Result<void> close() { return sink_->close(); }

  // Whether the file in hand is too large or too old. The caller chooses the moment.
  bool is_due(Time now) const;
  Result<void> rotate(Time now);

  const std::string& current() const { return current_; }
  unsigned files() const { return files_; }

 private:
  std::string name_at(Time now) const;
  void remove_oldest() const;

  std::string path_;
  RotationLimits limits_;
  Create create_;
  std::unique_ptr<CaptureSink> sink_;
  std::vector<std::vector<std::string>> meta_;
  std::string current_;
  Time opened_{};
  unsigned files_ = 0;
};

// "20260131T120000.123Z"
std::string time_stamp(CaptureFiles::Time time);

}  // namespace petrel
