// SPDX-License-Identifier: MIT
// petrel-bench-ring: what building, moving and publishing a ring cost, and how many slots a change
// of weights moves, as JSON on stdout.
//
// Times are the medians of Google Benchmark's repetitions, in an order drawn anew. Churn is
// counted, not measured: it is the same on every machine.
#include <benchmark/benchmark.h>
#include <bpf/bpf.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "maps/mapped_array.hpp"
#include "ring/ring.hpp"

namespace {

namespace json = boost::json;
using petrel::RingChange;
using petrel::RingMember;
using Ring = std::vector<std::uint32_t>;

constexpr std::uint32_t kSizes[] = {3, 10, 100, 400, 1000};
constexpr std::uint64_t kWeight = 100 * 65536;  // base weight x factor_q16
constexpr std::uint32_t kTried = 10;            // backends that a change is tried on

// One size's backends, their neutral ring, and the changes that one of them at 0.9 brings.
struct Subject {
  std::uint32_t backends = 0;
  std::uint32_t slots = 0;
  std::vector<RingMember> members;
  Ring neutral;
  std::vector<RingChange> at_nine_tenths;  // the first backend
};

std::vector<RingMember> equal_members(std::uint32_t count) {
  std::vector<RingMember> members;
  for (std::uint32_t id = 1; id <= count; ++id) {
    petrel::bpf::address address{};
    address.bytes[10] = address.bytes[11] = 0xff;
    address.bytes[12] = 10;
    address.bytes[14] = static_cast<std::uint8_t>(id >> 8);
    address.bytes[15] = static_cast<std::uint8_t>(id);
    members.push_back({id, petrel::ring_seed(address, 80), kWeight});
  }
  return members;
}

Subject subject(std::uint32_t backends) {
  Subject made;
  made.backends = backends;
  made.slots = petrel::ring_slots(backends);
  made.members = equal_members(backends);
  made.neutral = petrel::build_neutral(made.members, made.slots);
  std::vector<RingMember> lowered = made.members;
  lowered[0].weight = kWeight / 10 * 9;
  made.at_nine_tenths = petrel::reweigh(made.neutral, made.neutral, lowered);
  return made;
}

// --- churn --------------------------------------------------------------------------------------

std::map<std::uint32_t, std::uint32_t> counts_of(const Ring& ring) {
  std::map<std::uint32_t, std::uint32_t> counts;
  for (const std::uint32_t id : ring) ++counts[id];
  return counts;
}

// By how much a backend's share is off its weight's, the worst of them.
double balance_error(const Subject& subject) {
  const double due = static_cast<double>(subject.slots) / subject.backends;
  double worst = 0;
  for (const auto& [id, count] : counts_of(subject.neutral)) {
    worst = std::max(worst, std::abs(count / due - 1));
  }
  return worst;
}

// What no way of reaching the weights can be below: each backend takes what it is short of.
std::size_t least_moves(const Ring& ring, const std::vector<RingMember>& members) {
  auto counts = counts_of(ring);
  const auto quotas = petrel::ring_quotas(members, static_cast<std::uint32_t>(ring.size()));
  std::size_t moves = 0;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::uint32_t count = counts[members[i].backend_id];
    moves += quotas[i] > count ? quotas[i] - count : 0;
  }
  return moves;
}

double multiple(std::size_t moves, std::size_t least) {
  return static_cast<double>(moves) / static_cast<double>(std::max<std::size_t>(least, 1));
}

// The worst over a few backends, each going from its base weight to `weight`.
double churn_to(const Subject& subject, std::uint64_t weight) {
  double worst = 0;
  for (std::uint32_t i = 0; i < std::min(kTried, subject.backends); ++i) {
    std::vector<RingMember> members = subject.members;
    members[i * subject.backends / std::min(kTried, subject.backends)].weight = weight;
    const auto changes = petrel::reweigh(subject.neutral, subject.neutral, members);
    worst = std::max(worst, multiple(changes.size(), least_moves(subject.neutral, members)));
  }
  return worst;
}

// The worst over a few backends, each taken out of the configuration: all hosts that have what is
// left must come to the same neutral ring, so that is where the ring goes.
double churn_of_removal(const Subject& subject) {
  double worst = 0;
  for (std::uint32_t i = 0; i < std::min(kTried, subject.backends); ++i) {
    std::vector<RingMember> members = subject.members;
    members.erase(members.begin() + i * subject.backends / std::min(kTried, subject.backends));
    const Ring neutral = petrel::build_neutral(members, subject.slots);
    const auto changes = petrel::reweigh(subject.neutral, neutral, members);
    worst = std::max(worst, multiple(changes.size(), least_moves(subject.neutral, members)));
  }
  return worst;
}

// --- time ---------------------------------------------------------------------------------------

// A map as the agent's: an array in the kernel, written through memory.
class PublishedRing {
 public:
  explicit PublishedRing(std::uint32_t slots) {
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
    fd_ = bpf_map_create(BPF_MAP_TYPE_ARRAY, "bench_ring", sizeof(std::uint32_t),
                         sizeof(std::uint32_t), slots, &options);
    if (fd_ < 0) return;
    auto opened = petrel::MappedArray<std::uint32_t>::open(fd_, slots);
    if (opened) slots_ = std::move(*opened);
  }
  PublishedRing(PublishedRing&&) = delete;
  ~PublishedRing() {
    if (fd_ >= 0) ::close(fd_);
  }

  bool good() const { return slots_.size() > 0; }
  void store(std::uint32_t slot, std::uint32_t id) {
    __atomic_store_n(&slots_[slot], id, __ATOMIC_RELAXED);
  }

 private:
  int fd_ = -1;
  petrel::MappedArray<std::uint32_t> slots_;
};

void build(benchmark::State& state, const Subject& subject) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(petrel::build_neutral(subject.members, subject.slots));
  }
}

void move_weights(benchmark::State& state, const Subject& subject) {
  std::vector<RingMember> lowered = subject.members;
  lowered[0].weight = kWeight / 10 * 9;
  for (auto _ : state) {
    benchmark::DoNotOptimize(petrel::reweigh(subject.neutral, subject.neutral, lowered));
  }
}

void publish_all(benchmark::State& state, const Subject& subject) {
  PublishedRing ring(subject.slots);
  if (!ring.good()) return state.SkipWithError("cannot make a BPF array: needs root");
  for (auto _ : state) {
    for (std::uint32_t slot = 0; slot < subject.slots; ++slot) {
      ring.store(slot, subject.neutral[slot]);
    }
  }
}

void publish_changes(benchmark::State& state, const Subject& subject) {
  PublishedRing ring(subject.slots);
  if (!ring.good()) return state.SkipWithError("cannot make a BPF array: needs root");
  for (auto _ : state) {
    for (const RingChange& change : subject.at_nine_tenths) {
      ring.store(change.slot, change.backend_id);
    }
  }
}

class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      const std::string& name = run.run_name.function_name;
      if (run.error_occurred) {
        errors[name] = run.error_message;
      } else if (run.run_type == Run::RT_Iteration) {
        // CPU time: what other programs on this core take is not the ring's.
        samples_ms[name].push_back(run.cpu_accumulated_time * 1e3 /
                                   static_cast<double>(run.iterations));
      }
    }
  }
  json::value median_ms(const std::string& name) {
    std::vector<double>& samples = samples_ms[name];
    if (samples.empty()) return nullptr;
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
  }

  std::map<std::string, std::vector<double>> samples_ms;
  std::map<std::string, std::string> errors;
};

std::string name_of(const char* what, const Subject& subject) {
  return std::string(what) + "_" + std::to_string(subject.backends);
}

void run(double seconds) {
  std::vector<Subject> subjects;
  for (const std::uint32_t backends : kSizes) subjects.push_back(subject(backends));
  using Body = void (*)(benchmark::State&, const Subject&);
  const std::pair<const char*, Body> bodies[] = {{"build", build},
                                                 {"reweigh", move_weights},
                                                 {"publish", publish_all},
                                                 {"publish_changes", publish_changes}};
  constexpr int kRepetitions = 9;
  const double each_s = seconds / kRepetitions / static_cast<double>(std::size(bodies)) /
                        static_cast<double>(std::size(kSizes));
  for (const Subject& one : subjects) {
    for (const auto& [what, body] : bodies) {
      benchmark::RegisterBenchmark(
          name_of(what, one).c_str(),
          [body = body, &one](benchmark::State& state) { body(state, one); })
          ->MinTime(std::max(each_s, 1e-4))
          ->Repetitions(kRepetitions);
    }
  }
  std::string program = "petrel-bench-ring";
  std::string interleave = "--benchmark_enable_random_interleaving=true";
  char* arguments[] = {program.data(), interleave.data(), nullptr};
  int count = 2;
  benchmark::Initialize(&count, arguments);
  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector);

  json::array rows;
  for (const Subject& one : subjects) {
    rows.push_back({{"backends", one.backends},
                    {"slots", one.slots},
                    {"build_ms", collector.median_ms(name_of("build", one))},
                    {"reweigh_ms", collector.median_ms(name_of("reweigh", one))},
                    {"publish_ms", collector.median_ms(name_of("publish", one))},
                    {"publish_changes_ms", collector.median_ms(name_of("publish_changes", one))},
                    {"balance_error", balance_error(one)},
                    {"churn_reweigh", churn_to(one, kWeight / 10 * 9)},
                    {"churn_leave", churn_to(one, 0)},
                    {"churn_removal", churn_of_removal(one)}});
  }
  json::array notes;
  for (const auto& [name, error] : collector.errors) {
    notes.emplace_back(name + " is null: " + error);
  }
  const json::object result{{"version", PETREL_VERSION}, {"ring", rows}, {"notes", notes}};
  std::cout << json::serialize(result) << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 10;
  CLI::App app("what petrel's ring costs, as JSON");
  app.add_option("--seconds", seconds, "about how long to measure")->check(CLI::Range(0.0, 3600.0));
  CLI11_PARSE(app, argc, argv);
  try {
    run(seconds);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "petrel-bench-ring: %s\n", failure.what());
    return 1;
  }
  return 0;
}
