// SPDX-License-Identifier: MIT
#include "cli/drops.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <chrono>
#include <iostream>
#include <thread>
#include <vector>

#include "api/client.hpp"
#include "cli/verbs.hpp"
#include "tap/verdicts.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

constexpr std::uint32_t kFirstNote = bpf::VERDICT_MISS_SYN;
using Counts = std::array<std::uint64_t, bpf::VERDICTS>;

struct ServiceCounts {
  std::string name;  // "": packets of no service
  Counts counts{};

  // Each packet has one verdict; notes count it again.
  std::uint64_t packets() const {
    std::uint64_t sum = 0;
    for (std::uint32_t verdict = 0; verdict < kFirstNote; ++verdict) sum += counts[verdict];
    return sum;
  }
};

// An agent of another version may know fewer verdicts, or more.
Counts counts_of(const json::value& verdicts) {
  Counts counts{};
  for (std::uint32_t verdict = 0; verdict < counts.size(); ++verdict) {
    const json::value* count = verdicts.as_object().if_contains(tap::verdict_name(verdict));
    if (count != nullptr) counts[verdict] = count->to_number<std::uint64_t>();
  }
  return counts;
}

Result<std::vector<ServiceCounts>> read_counts(const std::string& socket,
                                               const std::string& wanted) {
  const auto body = api_get(socket, "/v1/status");
  if (!body) return body.error();
  const json::value status = json::parse(*body);
  std::vector<ServiceCounts> list;
  std::string known;
  for (const json::value& service : status.at("services").as_array()) {
    const std::string name = service.at("name").as_string().c_str();
    known += (known.empty() ? "" : ", ") + name;
    if (wanted.empty() || name == wanted) {
      list.push_back({name, counts_of(service.at("verdicts"))});
    }
  }
  if (wanted.empty()) list.push_back({"", counts_of(status.at("unserved"))});
  if (list.empty()) {
    return Error(ExitCode::kUsage, "no service is called " + wanted + ": there is " + known);
  }
  return list;
}

// What grew; a service that came meanwhile grew from nothing.
void subtract(std::vector<ServiceCounts>& after, const std::vector<ServiceCounts>& before) {
  for (ServiceCounts& service : after) {
    const auto had = std::ranges::find(before, service.name, &ServiceCounts::name);
    if (had == before.end()) continue;
    for (std::size_t i = 0; i < service.counts.size(); ++i) {
      service.counts[i] -= std::min(had->counts[i], service.counts[i]);
    }
  }
}

ServiceCounts total_of(const std::vector<ServiceCounts>& services) {
  ServiceCounts total{"total", {}};
  for (const ServiceCounts& service : services) {
    for (std::size_t i = 0; i < total.counts.size(); ++i) total.counts[i] += service.counts[i];
  }
  return total;
}

void print_rows(const ServiceCounts& service, const DropsOptions& options, std::uint32_t first,
                std::uint32_t end) {
  for (std::uint32_t verdict = first; verdict < end; ++verdict) {
    const std::uint64_t count = service.counts[verdict];
    if (count == 0 && !options.all) continue;
    std::string rate;
    if (options.interval_s > 0) {
      rate = fmt::format("{:>10.1f}/s", static_cast<double>(count) / options.interval_s);
    }
    fmt::print("    {:<18} {:>14}{}  {}\n", tap::verdict_name(verdict), count, rate,
               tap::verdict_meaning(verdict));
  }
}

void print_service(const std::string& title, const ServiceCounts& service,
                   const DropsOptions& options) {
  fmt::print("{}: {} packets{}\n", title, service.packets(),
             options.interval_s > 0 ? fmt::format(" in {:g} s", options.interval_s) : "");
  print_rows(service, options, 0, kFirstNote);
  const bool noted = std::any_of(service.counts.begin() + kFirstNote, service.counts.end(),
                                 [](std::uint64_t count) { return count > 0; });
  if (!noted && !options.all) return;
  fmt::print("  of these\n");
  print_rows(service, options, kFirstNote, bpf::VERDICTS);
}

json::object service_json(const ServiceCounts& service, const DropsOptions& options) {
  json::array verdicts;
  json::array notes;
  for (std::uint32_t verdict = 0; verdict < bpf::VERDICTS; ++verdict) {
    if (service.counts[verdict] == 0 && !options.all) continue;
    (verdict < kFirstNote ? verdicts : notes)
        .push_back({{"name", tap::verdict_name(verdict)},
                    {"count", service.counts[verdict]},
                    {"meaning", tap::verdict_meaning(verdict)}});
  }
  return {{"name", service.name.empty() ? json::value(nullptr) : json::value(service.name)},
          {"packets", service.packets()},
          {"verdicts", std::move(verdicts)},
          {"notes", std::move(notes)}};
}

void print_json(const std::vector<ServiceCounts>& services, const DropsOptions& options) {
  json::array list;
  for (const ServiceCounts& service : services) list.push_back(service_json(service, options));
  std::cout << json::serialize(json::object{
                   {"schema", "petrel/drops/v1"},
                   {"interval_s", options.interval_s > 0 ? json::value(options.interval_s)
                                                         : json::value(nullptr)},
                   {"services", std::move(list)},
                   {"total", service_json(total_of(services), options)}})
            << '\n';
}

}  // namespace

int run_drops(const std::string& socket, const DropsOptions& options) {
  auto services = read_counts(socket, options.service);
  if (!services) return fail(services.error());
  if (options.interval_s > 0) {
    const std::vector<ServiceCounts> before = std::move(*services);
    std::this_thread::sleep_for(std::chrono::duration<double>(options.interval_s));
    services = read_counts(socket, options.service);
    if (!services) return fail(services.error());
    subtract(*services, before);
  }
  if (options.as_json) {
    print_json(*services, options);
    return 0;
  }
  for (const ServiceCounts& service : *services) {
    const bool named = !service.name.empty();
    print_service(named ? "service " + service.name : "of no service", service, options);
    fmt::print("\n");
  }
  if (services->size() > 1) print_service("total", total_of(*services), options);
  return 0;
}

}  // namespace petrel::cli
