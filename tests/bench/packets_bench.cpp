// SPDX-License-Identifier: MIT
// petrel-bench-packets: ns a packet of each case, and the facts of each program, as JSON on stdout.
//
// Google Benchmark runs the cases in rounds, in an order drawn anew, so that a machine that is slow
// for a while is slow for all of them. A sample is the shortest of a few short runs less the
// shortest of as many with an empty program; the figure is the median of the samples.
#include <benchmark/benchmark.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <map>

#include "tests/bench/cases.hpp"
#include "tests/bench/program_facts.hpp"

namespace {

namespace json = boost::json;
using petrel::bench::Case;

constexpr int kExitRuntime = 1;
constexpr std::uint32_t kEmptyPackets = 200'000;

struct Options {
  double seconds = 30;
  int rounds = 0;  // 0: as many as the seconds allow
  int runs = 5;    // of which a sample takes the shortest
  std::uint32_t flows = 100'000;
  bool programs_only = false;
};

// Collects the samples of each case; Google Benchmark's own figures are of no use for a difference.
class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration) continue;
      if (run.error_occurred) {
        errors[run.run_name.function_name] = run.error_message;
      } else {
        samples_ns[run.run_name.function_name].push_back(run.real_accumulated_time * 1e9);
      }
    }
  }

  std::map<std::string, std::vector<double>> samples_ns;
  std::map<std::string, std::string> errors;
};

double quantile(std::vector<double> sorted, double share) {
  std::sort(sorted.begin(), sorted.end());
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

// Tenths: what the kernel tells is whole nanoseconds.
double rounded(double ns) { return std::round(ns * 10) / 10; }

using Sampler = std::function<double()>;

// Each sampler once, to warm up, and to learn how long a round takes. Those that fail are removed.
int rounds_for(const Options& options, std::map<std::string, Sampler>& samplers,
               std::vector<std::string>& notes) {
  const auto began = std::chrono::steady_clock::now();
  for (auto at = samplers.begin(); at != samplers.end();) {
    try {
      at->second();
      ++at;
    } catch (const std::exception& failure) {
      notes.push_back(at->first + "_ns is null: " + failure.what());
      at = samplers.erase(at);
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  if (options.rounds > 0) return options.rounds;
  return std::clamp(static_cast<int>(options.seconds / took.count()), 3, 1000);
}

void measure(const std::map<std::string, Sampler>& samplers, int rounds, Collector& collector) {
  for (const auto& [name, sampler] : samplers) {
    const auto one_sample = [&sampler = sampler](benchmark::State& state) {
      for (auto _ : state) {
        try {
          state.SetIterationTime(sampler() * 1e-9);
        } catch (const std::exception& failure) {
          state.SkipWithError(failure.what());
          break;
        }
      }
    };
    benchmark::RegisterBenchmark(name.c_str(), one_sample)
        ->UseManualTime()
        ->Iterations(1)
        ->Repetitions(rounds);
  }
  std::string program = "petrel-bench-packets";
  std::string interleave = "--benchmark_enable_random_interleaving=true";
  char* arguments[] = {program.data(), interleave.data(), nullptr};
  int count = 2;
  benchmark::Initialize(&count, arguments);
  benchmark::RunSpecifiedBenchmarks(&collector);
}

void pin_to_one_core() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  // The last one: interrupts and most programs begin at the first.
  int last = CPU_SETSIZE - 1;
  while (last > 0 && CPU_ISSET(last, &allowed) == 0) --last;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(last, &one);
  sched_setaffinity(0, sizeof(one), &one);
}

json::object figures(const Collector& collector, json::object& spread) {
  json::object packets;
  for (const char* name :
       {"empty", "lru_hot", "lru_100k", "score", "score_features", "not_ours", "established_hot", "established_bare",
        "established_100k", "reply_hot", "syn", "syn_flood", "shed", "steered", "dsr_hot"}) {
    const std::string key = std::string(name) + "_ns";
    const auto found = collector.samples_ns.find(name);
    packets[key] = nullptr;
    if (found == collector.samples_ns.end()) continue;
    packets[key] = rounded(quantile(found->second, 0.5));
    spread[key] = {{"low", rounded(quantile(found->second, 0.25))},
                   {"high", rounded(quantile(found->second, 0.75))},
                   {"rounds", found->second.size()}};
  }
  packets["sensor_ns"] = nullptr;
  if (packets["established_hot_ns"].is_double() && packets["established_bare_ns"].is_double()) {
    packets["sensor_ns"] = rounded(packets["established_hot_ns"].get_double() -
                                   packets["established_bare_ns"].get_double());
  }
  return packets;
}

json::array programs(std::vector<std::string>& notes) {
  json::array all;
  for (const auto& facts : petrel::bench::program_facts(notes)) {
    json::object one{{"name", facts.name},
                     {"instructions", facts.instructions},
                     {"jited_bytes", facts.jited_bytes},
                     {"stack_bytes", nullptr},
                     {"stack_bytes_counted", nullptr},
                     {"verified_instructions", facts.verified_instructions}};
    if (facts.stack_bytes) one["stack_bytes"] = *facts.stack_bytes;
    if (facts.stack_bytes_counted) one["stack_bytes_counted"] = *facts.stack_bytes_counted;
    if (!facts.stack_bytes) notes.push_back("stack_bytes of " + facts.name + " is null: the "
                                            "verifier's log does not tell");
    all.push_back(std::move(one));
  }
  return all;
}

void show_programs() {
  std::vector<std::string> notes;
  json::object result{{"version", PETREL_VERSION}, {"programs", programs(notes)}};
  result["notes"] = json::value_from(notes);
  std::cout << json::serialize(result) << '\n';
}

void run(const Options& options) {
  std::vector<std::string> notes;
  pin_to_one_core();
  petrel::bench::Driver driver;
  petrel::bench::Cases cases(driver, options.flows);
  for (const std::string& failure : cases.failures()) notes.push_back(failure);

  std::map<std::string, Sampler> samplers;
  samplers["empty"] = [&] {
    std::uint32_t best = UINT32_MAX;
    for (int i = 0; i < options.runs; ++i) best = std::min(best, driver.run_empty(kEmptyPackets));
    return static_cast<double>(best);
  };
  for (Case& which : cases.all()) {
    samplers[which.name] = [&] { return petrel::bench::sample(driver, which, options.runs); };
  }
  Collector collector;
  measure(samplers, rounds_for(options, samplers, notes), collector);
  for (const auto& [name, error] : collector.errors) {
    notes.push_back(name + ": a sample was left out: " + error);
  }
  json::object spread;
  json::object result{{"version", PETREL_VERSION}, {"packets", figures(collector, spread)}};
  result["spread"] = std::move(spread);
  result["programs"] = programs(notes);
  result["notes"] = json::value_from(notes);
  std::cout << json::serialize(result) << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("ns a packet of petrel's BPF programs, as JSON");
  app.add_option("--seconds", options.seconds, "about how long to measure")
      ->check(CLI::Range(0.0, 3600.0));
  app.add_option("--rounds", options.rounds, "samples of each case, instead of --seconds")
      ->check(CLI::Range(1, 10000));
  app.add_option("--runs", options.runs, "runs of which a sample takes the shortest")
      ->check(CLI::Range(1, 100));
  app.add_option("--flows", options.flows, "established flows to choose from at random")
      ->check(CLI::Range(1, 120'000));
  app.add_flag("--programs", options.programs_only, "only load the programs: their facts alone");
  CLI11_PARSE(app, argc, argv);
  try {
    options.programs_only ? show_programs() : run(options);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "petrel-bench-packets: %s\n", failure.what());
    return kExitRuntime;
  }
  return 0;
}
