// SPDX-License-Identifier: MIT
// DecisionLog: decisions on their way to disk, which nobody waits for.
//
// A bounded queue to a thread of its own, which alone touches files: a disk that is full, slow or gone
// costs decisions, which are counted, and never a tick. The latest of each backend are kept at hand
// for `petrel explain`.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "decisions/decision.hpp"
#include "decisions/decision_store.hpp"

namespace petrel {

struct DecisionCounts {
  std::uint64_t decisions = 0;    // since the start
  std::uint64_t lost_full = 0;    // the queue was full
  std::uint64_t sqlite_lost = 0;  // could not be written there
  std::uint64_t json_lost = 0;
  std::string error;              // of the last write that failed; "": the last one went well
};

class DecisionLog {
 public:
  static constexpr std::size_t kMostQueued = 8192;
  static constexpr std::size_t kRecent = 8;  // of each backend

  DecisionLog(std::string directory, DecisionLogSettings settings);
  ~DecisionLog();  // what is queued is written, if that takes no longer than 2 s
  DecisionLog(DecisionLog&&) = delete;

  // From the owner's thread, as all that follows.
  void add(Decision decision);
  void configure(const std::string& directory, const DecisionLogSettings& settings);
  // Of a backend, or of a service itself (""); the latest last.
  const std::deque<Decision>& recent(const std::string& service, const std::string& backend) const;
  DecisionCounts counts() const;
  const std::string& directory() const { return directory_; }
  const DecisionLogSettings& settings() const { return settings_; }

 private:
  // What both threads know; the writer's own, too, should it outlive the log on a disk that hangs.
  struct Shared {
    std::mutex mutex;
    std::condition_variable wake;   // the writer
    std::condition_variable ended;  // its owner
    std::vector<Decision> queued;
    std::string directory;
    DecisionLogSettings settings;
    bool reconfigured = true;
    bool stopping = false;
    bool has_ended = false;
    std::uint64_t sqlite_lost = 0;
    std::uint64_t json_lost = 0;
    std::string sqlite_error;
    std::string json_error;
  };
  static void write_all(Shared& shared);  // the thread
  static void write(Shared& shared, DecisionStore& store, const std::vector<Decision>& batch);

  std::string directory_;
  DecisionLogSettings settings_;
  std::map<std::pair<std::string, std::string>, std::deque<Decision>> recent_;
  std::uint64_t decisions_ = 0;
  std::uint64_t lost_full_ = 0;
  std::shared_ptr<Shared> shared_;
  std::thread writer_;
};

}  // namespace petrel
