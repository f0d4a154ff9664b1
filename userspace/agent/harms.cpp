// SPDX-License-Identifier: MIT
#include "agent/harms.hpp"

#include <boost/json.hpp>

#include "agent/state_file.hpp"

namespace petrel {
namespace {

namespace json = boost::json;

constexpr std::string_view kSchema = "petrel/harms/v1";

}  // namespace

std::string harms_text(std::span<const Harm> harms) {
  json::array list;
  for (const Harm& it : harms) {
    list.push_back({{"service", it.service},
                    {"until_ns", it.until_ns},
                    {"rest_ns", it.rest_ns},
                    {"found", it.found}});
  }
  return json::serialize(json::object{{"schema", kSchema}, {"harms", std::move(list)}}) + "\n";
}

Result<std::vector<Harm>> parse_harms(std::string_view text, const std::string& name) {
  const auto wrong = [&](const std::string& found) {
    return Error(ExitCode::kInput, name + ": expected " + std::string(kSchema) +
                                       " as this agent writes it, found " + found);
  };
  std::vector<Harm> harms;
  try {
    const json::value value = json::parse(json::string_view(text.data(), text.size()));
    if (value.at("schema").as_string() != kSchema) return wrong("another schema");
    for (const json::value& it : value.at("harms").as_array()) {
      harms.push_back({std::string(it.at("service").as_string()),
                       it.at("until_ns").to_number<std::int64_t>(),
                       it.at("rest_ns").to_number<std::uint64_t>(),
                       it.at("found").to_number<std::uint64_t>()});
    }
  } catch (const std::exception& thrown) {
    return wrong(thrown.what());
  }
  return harms;
}

Result<std::vector<Harm>> read_harms(const std::string& path) {
  auto text = read_file_whole(path);
  if (!text) return text.error();
  if (text->empty()) return std::vector<Harm>{};
  return parse_harms(*text, path);
}

}  // namespace petrel
