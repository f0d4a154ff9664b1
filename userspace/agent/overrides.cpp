// SPDX-License-Identifier: MIT
#include "agent/overrides.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

#include "agent/state_file.hpp"

namespace petrel {
namespace {

namespace json = boost::json;

constexpr std::string_view kSchema = "petrel/overrides/v1";
constexpr std::array<std::string_view, 4> kKinds = {"weight", "freeze", "neutral", "drain"};

std::optional<OverrideKind> kind_of(std::string_view text) {
  const auto found = std::ranges::find(kKinds, text);
  if (found == kKinds.end()) return std::nullopt;
  return static_cast<OverrideKind>(found - kKinds.begin());
}

json::object stored(const Override& it) {
  json::object frozen;
  for (const auto& [backend, factor_q16] : it.frozen_q16) frozen[backend] = factor_q16;
  return {{"kind", to_string(it.kind)}, {"service", it.service},       {"backend", it.backend},
          {"percent", it.percent},      {"reason", it.reason},         {"by", it.by},
          {"uid", it.uid},              {"since_ns", it.since_ns},     {"until_ns", it.until_ns},
          {"drained_ns", it.drained_ns}, {"frozen_q16", std::move(frozen)}};
}

// Throws what Boost.JSON does of a field that is missing or another thing.
std::optional<Override> loaded(const json::object& it) {
  const auto text = [&](const char* name) {
    return std::string(it.at(name).as_string());
  };
  const auto kind = kind_of(text("kind"));
  if (!kind) return std::nullopt;
  Override out{*kind, text("service"), text("backend"), it.at("percent").to_number<double>(),
               text("reason"), text("by"), it.at("uid").to_number<std::uint32_t>(),
               it.at("since_ns").to_number<std::int64_t>(),
               it.at("until_ns").to_number<std::int64_t>(),
               it.at("drained_ns").to_number<std::int64_t>()};
  for (const auto& [backend, factor_q16] : it.at("frozen_q16").as_object()) {
    out.frozen_q16[backend] = factor_q16.to_number<std::uint32_t>();
  }
  const bool of_service = *kind == OverrideKind::kFreeze || *kind == OverrideKind::kNeutral;
  if (out.service.empty() || out.backend.empty() != of_service) return std::nullopt;
  if (!(out.percent >= 0 && out.percent <= 100)) return std::nullopt;
  return out;
}

// A service has one order as a whole; a backend one of each kind.
bool takes_the_place(const Override& fresh, const Override& of) {
  return fresh.service == of.service && fresh.backend == of.backend &&
         (fresh.is_of_service() || fresh.kind == of.kind);
}

}  // namespace

std::string_view to_string(OverrideKind kind) { return kKinds[static_cast<std::size_t>(kind)]; }

Result<Overrides> Overrides::parse(std::string_view text, const std::string& name,
                                   std::int64_t now_ns) {
  const auto wrong = [&](const std::string& found) {
    return Error(ExitCode::kInput, name + ": expected " + std::string(kSchema) +
                                       " as this agent writes it, found " + found);
  };
  Overrides overrides;
  try {
    const json::value value = json::parse(json::string_view(text.data(), text.size()));
    if (value.at("schema").as_string() != kSchema) return wrong("another schema");
    for (const json::value& item : value.at("overrides").as_array()) {
      const std::optional<Override> override = loaded(item.as_object());
      if (!override) return wrong(json::serialize(item));
      if (!override->is_over(now_ns)) overrides.put(*override);
    }
  } catch (const std::exception& thrown) {
    return wrong(thrown.what());
  }
  return overrides;
}

std::string Overrides::text() const {
  json::array list;
  for (const Override& override : list_) list.push_back(stored(override));
  return json::serialize(json::object{{"schema", kSchema}, {"overrides", std::move(list)}}) + "\n";
}

template <class Which>
std::vector<Override> Overrides::take(Which which) {
  std::vector<Override> taken;
  std::copy_if(list_.begin(), list_.end(), std::back_inserter(taken), which);
  std::erase_if(list_, which);
  return taken;
}

void Overrides::put(Override override) {
  take([&](const Override& of) { return takes_the_place(override, of); });
  list_.push_back(std::move(override));
}

std::vector<Override> Overrides::release(const std::string& service, const std::string& backend) {
  return take([&](const Override& of) {
    return of.service == service && (backend.empty() || of.backend == backend);
  });
}

void Overrides::release(const std::string& service, const std::string& backend,
                        OverrideKind kind) {
  take([&](const Override& of) {
    return of.service == service && of.backend == backend && of.kind == kind;
  });
}

std::vector<Override> Overrides::expire(std::int64_t now_ns) {
  return take([&](const Override& of) { return of.is_over(now_ns); });
}

json::object override_json(const Override& it, std::int64_t now_ns) {
  const bool ends = it.until_ns != 0;
  return {{"kind", to_string(it.kind)},
          {"service", it.service},
          {"backend", it.is_of_service() ? json::value(nullptr) : json::value(it.backend)},
          {"percent",
           it.kind == OverrideKind::kWeight ? json::value(it.percent) : json::value(nullptr)},
          {"reason", it.reason},
          {"by", it.by},
          {"uid", it.uid},
          {"since", utc_text(it.since_ns)},
          {"until", ends ? json::value(utc_text(it.until_ns)) : json::value(nullptr)},
          {"left_s", ends ? json::value(static_cast<double>(it.until_ns - now_ns) / 1e9)
                          : json::value(nullptr)}};
}

Result<Overrides> read_overrides(const std::string& path, std::int64_t now_ns) {
  auto text = read_file_whole(path);
  if (!text) return text.error();
  return text->empty() ? Overrides{} : Overrides::parse(*text, path, now_ns);
}

}  // namespace petrel
