// SPDX-License-Identifier: MIT
// petrel-fuzz: the packet fuzzer on as many CPUs as there are; scripts/fuzz runs it.
#include <linux/bpf.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <boost/json.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/fuzz/fuzzer.hpp"

namespace petrel::fuzz {
namespace {

constexpr int kExitRuntime = 1, kExitUsage = 2, kExitMissing = 5, kExitFinding = 8;

struct Options {
  std::uint64_t packets = 10'000'000;
  std::uint64_t seed = 1;
  std::uint64_t from = 0;
  unsigned threads = 0;
  std::string json;
};

std::vector<int> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// All that the threads share. Each takes the next epoch until there are none or one has a finding:
// the finding of the lowest index is the same whatever their number and pace.
class Run {
 public:
  explicit Run(const Options& options)
      : options_(options), next_(options.from / kEpochPackets), first_(next_) {}

  void work(int cpu) try {
    Fuzzer fuzzer(options_.seed);
    if (const std::string problem = fuzzer.load(cpu); !problem.empty()) {
      fail(problem, fuzzer.missing_right() ? kExitMissing : kExitRuntime);
      return;
    }
    const std::uint64_t epochs = (options_.packets + kEpochPackets - 1) / kEpochPackets;
    while (!stop_) {
      const std::uint64_t epoch = next_++;
      if (epoch >= first_ + epochs) break;
      const std::uint64_t before = fuzzer.packets();
      const auto finding = fuzzer.run_epoch(
          epoch, std::min(kEpochPackets, options_.packets - (epoch - first_) * kEpochPackets));
      done_ += fuzzer.packets() - before;
      if (finding) keep(*finding);
    }
    const std::scoped_lock lock(mutex_);
    for (std::size_t i = 0; i < actions_.size(); ++i) actions_[i] += fuzzer.actions()[i];
    for (std::size_t i = 0; i < verdicts_.size(); ++i) verdicts_[i] += fuzzer.verdicts()[i];
  } catch (const std::exception& error) {
    fail(error.what(), kExitRuntime);
  }

  void show_progress(std::chrono::duration<double> elapsed) const {
    const auto done = static_cast<double>(done_);
    if (done_ == 0) return;
    std::fprintf(stderr, "fuzz: %.1f of %.1f million packets, %.0f a second, about %.0f s left\n",
                 done / 1e6, static_cast<double>(options_.packets) / 1e6, done / elapsed.count(),
                 (static_cast<double>(options_.packets) - done) * elapsed.count() / done);
  }

  int report(std::chrono::duration<double> elapsed) const;
  void end_thread() { ++ended_; }
  unsigned ended() const { return ended_; }

 private:
  void keep(const Finding& finding) {
    const std::scoped_lock lock(mutex_);
    if (!finding_ || finding.index < finding_->index) finding_ = finding;
    stop_ = true;
  }
  void fail(const std::string& problem, int code) {
    const std::scoped_lock lock(mutex_);
    problem_ = problem;
    exit_code_ = code;
    stop_ = true;
  }

  const Options& options_;
  std::atomic<std::uint64_t> next_, done_ = 0;
  std::uint64_t first_;
  std::atomic<bool> stop_ = false;
  std::atomic<unsigned> ended_ = 0;
  std::mutex mutex_;
  std::optional<Finding> finding_;
  std::string problem_;
  int exit_code_ = 0;
  Actions actions_{};
  std::array<std::uint64_t, bpf::VERDICTS> verdicts_{};
};

const char* verdict_name(std::size_t verdict) {
  static constexpr const char* kNames[] = {
#define PETREL_VERDICT_NAME(name, text, meaning) text,
      PETREL_VERDICTS(PETREL_VERDICT_NAME)
#undef PETREL_VERDICT_NAME
  };
  return kNames[verdict];
}

int Run::report(std::chrono::duration<double> elapsed) const {
  if (!problem_.empty()) {
    std::fprintf(stderr, "fuzz: %s%s\n", problem_.c_str(),
                 exit_code_ == kExitMissing ? ": needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and "
                                              "CAP_SYS_ADMIN: run it as root"
                                            : "");
    return exit_code_;
  }
  boost::json::object verdicts;
  for (std::size_t i = 0; i < verdicts_.size(); ++i) verdicts[verdict_name(i)] = verdicts_[i];
  boost::json::object facts{{"schema", "petrel/fuzz/v1"},
                            {"seed", options_.seed},
                            {"packets", done_.load()},
                            {"seconds", elapsed.count()},
                            {"passed", actions_[XDP_PASS]},
                            {"sent", actions_[XDP_TX] + actions_[XDP_REDIRECT]},
                            {"dropped", actions_[XDP_DROP]},
                            {"verdicts", verdicts},
                            {"finding", nullptr}};
  std::printf("%llu packets in %.1f s (%.0f a second), seed %llu: %llu passed, %llu sent, %llu "
              "dropped\n",
              static_cast<unsigned long long>(done_), elapsed.count(),
              static_cast<double>(done_) / elapsed.count(),
              static_cast<unsigned long long>(options_.seed),
              static_cast<unsigned long long>(actions_[XDP_PASS]),
              static_cast<unsigned long long>(actions_[XDP_TX] + actions_[XDP_REDIRECT]),
              static_cast<unsigned long long>(actions_[XDP_DROP]));
  for (std::size_t i = 0; i < verdicts_.size(); ++i)
    std::printf("  %-18s %12llu\n", verdict_name(i),
                static_cast<unsigned long long>(verdicts_[i]));
  if (finding_) {
    const std::string text = describe(*finding_, options_.seed);
    const std::string file = "petrel-fuzz-" + std::to_string(options_.seed) + "-" +
                             std::to_string(finding_->index) + ".txt";
    std::ofstream(file) << text;
    std::printf("FOUND: %ssaved in %s; again: --seed %llu --from %llu\n", text.c_str(),
                file.c_str(), static_cast<unsigned long long>(options_.seed),
                static_cast<unsigned long long>(finding_->index));
    facts["finding"] = text;
  }
  if (!options_.json.empty() &&
      !(std::ofstream(options_.json) << boost::json::serialize(facts) << '\n')) {
    std::fprintf(stderr, "fuzz: cannot write %s\n", options_.json.c_str());
    return kExitRuntime;
  }
  return finding_ ? kExitFinding : 0;
}

int fuzz(const Options& options) {
  using Clock = std::chrono::steady_clock;
  std::vector<int> cpus = usable_cpus();
  if (options.threads != 0 && options.threads < cpus.size()) cpus.resize(options.threads);
  Run run(options);
  const auto begin = Clock::now();
  std::vector<std::jthread> threads;
  for (const int cpu : cpus) {
    threads.emplace_back([&run, cpu] {
      run.work(cpu);
      run.end_thread();
    });
  }
  for (auto shown = begin; run.ended() < threads.size();) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (Clock::now() - shown < std::chrono::seconds(5)) continue;
    shown = Clock::now();
    run.show_progress(shown - begin);
  }
  threads.clear();
  return run.report(Clock::now() - begin);
}

}  // namespace
}  // namespace petrel::fuzz

int main(int argc, char** argv) {
  petrel::fuzz::Options options;
  CLI::App app{"Runs made-up packets through the balancer and judges what becomes of them."};
  app.add_option("--packets", options.packets, "how many")->check(CLI::PositiveNumber);
  app.add_option("--seed", options.seed, "of everything that is drawn");
  app.add_option("--from", options.from, "begin with the epoch that holds this packet");
  app.add_option("--threads", options.threads, "at most so many CPUs; 0: all");
  app.add_option("--json", options.json, "write the figures to this file");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : petrel::fuzz::kExitUsage;
  }
  return petrel::fuzz::fuzz(options);
}
