// SPDX-License-Identifier: MIT
#include "decisions/decision_log.hpp"

#include <pthread.h>

#include <chrono>
#include <csignal>

namespace petrel {
namespace {

constexpr std::chrono::milliseconds kPause{20};  // between batches: some decisions a transaction
constexpr std::chrono::seconds kLongestEnd{2};

}  // namespace

DecisionLog::DecisionLog(std::string directory, DecisionLogSettings settings)
    : directory_(std::move(directory)), settings_(settings), shared_(std::make_shared<Shared>()) {
  shared_->directory = directory_;
  shared_->settings = settings_;
  writer_ = std::thread([shared = shared_] {
    write_all(*shared);
    const std::lock_guard lock(shared->mutex);
    shared->has_ended = true;
    shared->ended.notify_one();
  });
}

DecisionLog::~DecisionLog() {
  std::unique_lock lock(shared_->mutex);
  shared_->stopping = true;
  shared_->wake.notify_one();
  const bool ended =
      shared_->ended.wait_for(lock, kLongestEnd, [this] { return shared_->has_ended; });
  lock.unlock();
  // One that hangs must not hold up the agent's end.
  ended ? writer_.join() : writer_.detach();
}

void DecisionLog::add(Decision decision) {
  ++decisions_;
  std::deque<Decision>& recent = recent_[{decision.service, decision.backend}];
  recent.push_back(decision);
  if (recent.size() > kRecent) recent.pop_front();
  if (!settings_.sqlite && !settings_.json) return;
  {
    // Held by the writer for a swap at most.
    const std::lock_guard lock(shared_->mutex);
    if (shared_->queued.size() >= kMostQueued) {
      ++lost_full_;
      return;
    }
    shared_->queued.push_back(std::move(decision));
  }
  shared_->wake.notify_one();
}

void DecisionLog::configure(const std::string& directory, const DecisionLogSettings& settings) {
  if (directory == directory_ && settings == settings_) return;
  directory_ = directory;
  settings_ = settings;
  const std::lock_guard lock(shared_->mutex);
  shared_->directory = directory;
  shared_->settings = settings;
  shared_->reconfigured = true;
  shared_->wake.notify_one();
}

const std::deque<Decision>& DecisionLog::recent(const std::string& service,
                                                const std::string& backend) const {
  static const std::deque<Decision> kNone;
  const auto found = recent_.find({service, backend});
  return found == recent_.end() ? kNone : found->second;
}

DecisionCounts DecisionLog::counts() const {
  const std::lock_guard lock(shared_->mutex);
  const Shared& of = *shared_;
  return {decisions_, lost_full_, of.sqlite_lost, of.json_lost,
          of.sqlite_error.empty() ? of.json_error : of.sqlite_error};
}

void DecisionLog::write_all(Shared& shared) {
  // Signals are the agent's thread's.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_ptr<DecisionStore> store;
  for (;;) {
    std::vector<Decision> batch;
    bool stopping = false;
    bool opens = false;  // at once and not with the first decision: what is wrong is said early
    {
      std::unique_lock lock(shared.mutex);
      shared.wake.wait(lock, [&] {
        return shared.stopping || shared.reconfigured || !shared.queued.empty();
      });
      batch.swap(shared.queued);
      stopping = shared.stopping;
      if (shared.reconfigured) {
        store = std::make_unique<DecisionStore>(shared.directory, shared.settings);
        shared.reconfigured = false;
        opens = true;
      }
    }
    if (opens || !batch.empty()) write(shared, *store, batch);
    if (stopping) return;
    std::unique_lock lock(shared.mutex);
    shared.wake.wait_for(lock, kPause, [&] { return shared.stopping; });
  }
}

// Each by itself: where the one fails, the other may have what it lost.
void DecisionLog::write(Shared& shared, DecisionStore& store, const std::vector<Decision>& batch) {
  const auto sqlite = store.write_sqlite(batch);
  const auto json = store.write_json(batch);
  const std::lock_guard lock(shared.mutex);
  if (!sqlite) shared.sqlite_lost += batch.size();
  if (!json) shared.json_lost += batch.size();
  shared.sqlite_error = sqlite ? "" : sqlite.error().message();
  shared.json_error = json ? "" : json.error().message();
}

}  // namespace petrel
