// SPDX-License-Identifier: MIT
// Admission against a service of queues whose servers go on working for clients that have left.
#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <map>
#include <random>
#include <vector>

#include "control/admission.hpp"

namespace petrel {
namespace {

constexpr double kStepS = 0.005;
constexpr int kStepsOfTick = 20;
constexpr int kBackends = 3;
constexpr double kPerS = 600;  // of all backends together

struct Clients {
  double load = 0.9;
  double patience_s = 3;
  int retries = 4;
  double retry_after_s = 0.1;
};

// A cause: what part of the capacity is left from begin_s on, for seconds_s.
struct Cut {
  double begin_s = 10;
  double seconds_s = 10;
  double left = 0.2;
};

struct Figures {
  std::vector<double> served;  // requests in each second
  double attempts = 0;         // that reached a backend
  double requests = 0;
  double total() const {
    double sum = 0;
    for (const double each : served) sum += each;
    return sum;
  }
  double between(int from_s, int to_s) const {
    double sum = 0;
    for (int s = from_s; s < to_s; ++s) sum += served[static_cast<size_t>(s)];
    return sum / (to_s - from_s);
  }
};

struct Request {
  double begun_s = 0;  // of this attempt
  int retries_left = 0;
};

// Time in steps; each backend answers its queue in order at a third of kPerS.
class Service {
 public:
  Service(Clients clients, Cut cut, bool admission, unsigned seed)
      : clients_(clients), cut_(cut), admission_({.enabled = admission}), random_(seed) {}

  Figures run(int seconds) {
    figures_.served.assign(static_cast<size_t>(seconds), 0);
    const int steps = static_cast<int>(seconds / kStepS);
    for (int step = 0; step < steps; ++step) {
      now_s_ = step * kStepS;
      std::poisson_distribution<int> arrivals(clients_.load * kPerS * kStepS);
      for (int i = arrivals(random_); i > 0; --i) {
        figures_.requests++;
        arrive({now_s_, clients_.retries});
      }
      while (!due_.empty() && due_.begin()->first <= now_s_) {
        Request again = due_.begin()->second;
        due_.erase(due_.begin());
        again.begun_s = now_s_;
        arrive(again);
      }
      for (int backend = 0; backend < kBackends; ++backend) work(backend);
      leave();
      if (step % kStepsOfTick == 0) tick();
    }
    return figures_;
  }

 private:
  bool has_left(const Request& it) const { return now_s_ - it.begun_s >= clients_.patience_s; }

  void arrive(const Request& it) {
    if (decision_.limit > 0 && in_flight() >= decision_.limit) return fail(it);
    figures_.attempts++;
    queues_[next_++ % kBackends].push_back(it);
  }

  void fail(Request it) {
    if (it.retries_left-- > 0) due_.emplace(now_s_ + clients_.retry_after_s, it);
  }

  void work(int backend) {
    auto& queue = queues_[backend];
    const bool in_cut = now_s_ >= cut_.begin_s && now_s_ < cut_.begin_s + cut_.seconds_s;
    credit_[backend] += kPerS / kBackends * kStepS * (in_cut ? cut_.left : 1);
    while (credit_[backend] >= 1 && !queue.empty()) {
      credit_[backend] -= 1;
      if (!has_left(queue.front())) {
        answered_[backend]++;
        figures_.served[static_cast<size_t>(now_s_)]++;
      }
      queue.pop_front();
      if (left_[backend] > 0) left_[backend]--;  // those that have left are in front
    }
    if (queue.empty()) credit_[backend] = std::min(credit_[backend], 1.0);
  }

  // Clients whose patience has ended. Their requests stay in the queue.
  void leave() {
    for (int backend = 0; backend < kBackends; ++backend) {
      auto& queue = queues_[backend];
      while (left_[backend] < queue.size() && has_left(queue[left_[backend]])) {
        fail(queue[left_[backend]++]);
      }
    }
  }

  std::uint64_t in_flight() const {
    std::uint64_t sum = 0;
    for (int i = 0; i < kBackends; ++i) sum += queues_[i].size() - left_[i];
    return sum;
  }

  void tick() {
    const auto patience_ns = static_cast<std::uint64_t>(clients_.patience_s * 1e9);
    const std::uint64_t usual_ns = 10'000'000;
    const double overdue_s = static_cast<double>(admission_.overdue_ns(patience_ns, usual_ns)) / 1e9;
    std::vector<AdmissionBackend> backends;
    for (int i = 0; i < kBackends; ++i) {
      AdmissionBackend it{.base_weight = 100, .answered = answered_[i]};
      it.waiting = queues_[i].size() - left_[i];
      for (size_t at = left_[i]; at < queues_[i].size(); ++at) {
        it.overdue += now_s_ - queues_[i][at].begun_s > overdue_s;
      }
      answered_[i] = 0;
      backends.push_back(it);
    }
    decision_ = admission_.tick(100'000'000, patience_ns, usual_ns, backends);
  }

  Clients clients_;
  Cut cut_;
  Admission admission_;
  AdmissionDecision decision_;
  std::mt19937 random_;
  double now_s_ = 0;
  unsigned next_ = 0;
  std::deque<Request> queues_[kBackends];
  size_t left_[kBackends] = {};
  double credit_[kBackends] = {};
  std::uint64_t answered_[kBackends] = {};
  std::multimap<double, Request> due_;
  Figures figures_;
};

Figures run(Clients clients, Cut cut, bool admission, int seconds, unsigned seed = 1) {
  return Service(clients, cut, admission, seed).run(seconds);
}

// Capacity less 80 %, 4 retries, 3 s patience: Huang et al., Metastable Failures in the Wild (OSDI 2022): capacity less 80 % for 10 s.
TEST(AdmissionControl, EndsAStormThatNeverEndsByItself) {
  for (const double seconds : {5.0, 10.0, 20.0}) {
    const Cut cut{10, seconds, 0.2};
    const int end = static_cast<int>(10 + seconds);
    const Figures without = run({}, cut, false, end + 30);
    const Figures with = run({}, cut, true, end + 30);
    EXPECT_LT(without.between(end + 20, end + 30), 0.5 * 0.9 * kPerS) << seconds;
    EXPECT_GT(with.between(end + 5, end + 30), 0.95 * 0.9 * kPerS) << seconds;
    // Each backend first works off what came before the limit: some of that comes too late.
    EXPECT_GT(with.between(10, end), 0.8 * 0.2 * kPerS) << seconds;
    if (seconds >= 10) {
      EXPECT_GT(with.between(14, end), 0.95 * 0.2 * kPerS) << seconds;
    }
  }
}

TEST(AdmissionControl, AStopThatClientsOutwaitCostsNoneOfThem) {
  for (const double seconds : {1.0, 2.0}) {
    const Cut stop{10, seconds, 0};
    const Figures without = run({}, stop, false, 40);
    const Figures with = run({}, stop, true, 40);
    EXPECT_GE(with.total(), 0.999 * without.total()) << seconds;
  }
}

// 3 s, which is all that clients wait: without a limit the last one is served just in time, if none is
// late. 20 % longer, and without a limit none is served ever again.
TEST(AdmissionControl, AStopAsLongAsTheirPatienceCostsFewOfThem) {
  const Cut stop{10, 3, 0};
  EXPECT_GE(run({}, stop, true, 40).total(), 0.99 * run({}, stop, false, 40).total());
  const Cut longer{10, 3.6, 0};
  EXPECT_GE(run({}, longer, true, 40).total(), 1.5 * run({}, longer, false, 40).total());
}

TEST(AdmissionControl, LeavesAServiceAloneThatAnswers) {
  for (const double load : {0.3, 0.9, 0.98}) {
    const Figures with = run({.load = load}, {.seconds_s = 0}, true, 60);
    EXPECT_EQ(with.attempts, with.requests) << load;
  }
}

TEST(AdmissionControl, OverloadIsServedAtCapacity) {
  const Figures without = run({.load = 1.3, .patience_s = 1}, {.seconds_s = 0}, false, 60);
  const Figures with = run({.load = 1.3, .patience_s = 1}, {.seconds_s = 0}, true, 60);
  EXPECT_LT(without.between(30, 60), 0.5 * kPerS);
  EXPECT_GT(with.between(10, 60), 0.95 * kPerS);
}

TEST(AdmissionControl, OneBackendThatHangsIsNoneOfItsAffair) {
  Admission admission;
  const std::vector<AdmissionBackend> backends = {
      {100, 20, 2, 0}, {100, 20, 2, 0}, {100, 0, 300, 300}};
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(admission.tick(100'000'000, 1'000'000'000, 10'000'000, backends).limit, 0U);
  }
}

TEST(AdmissionControl, NothingIsLimitedBeforeAClientWasSeenToLeave) {
  Admission admission;
  const std::vector<AdmissionBackend> backends = {{100, 10, 500, 500}};
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(admission.tick(100'000'000, 0, 10'000'000, backends).limit, 0U);
  }
  EXPECT_EQ(admission.overdue_ns(0, 10'000'000), 0U);
  EXPECT_EQ(admission.overdue_ns(3'000'000'000, 10'000'000), 300'000'000U);
  EXPECT_EQ(admission.overdue_ns(3'000'000'000, 2'000'000'000), 8'000'000'000U);
}

TEST(AdmissionControl, IsOffWhereItWasSwitchedOff) {
  Admission admission({.enabled = false});
  const std::vector<AdmissionBackend> backends = {{100, 10, 500, 500}};
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(admission.tick(100'000'000, 1'000'000'000, 10'000'000, backends).limit, 0U);
  }
}

}  // namespace
}  // namespace petrel
