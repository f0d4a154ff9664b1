// SPDX-License-Identifier: MIT
#include "tap/names.hpp"

#include <boost/json.hpp>

namespace petrel::tap {
namespace {

namespace json = boost::json;

constexpr std::string_view kSchema = "petrel/tap/v1";

template <class Map, class TextOf>
std::string listed(const Map& map, TextOf text_of) {
  constexpr std::size_t kMostListed = 20;
  std::string list;
  std::size_t count = 0;
  for (const auto& [id, value] : map) {
    if (count++ == kMostListed) return list + ", ...";
    list += (list.empty() ? "" : ", ") + text_of(value);
  }
  return list;
}

Names read(const json::object& object) {
  Names names;
  names.pin_path = object.at("pin_path").as_string().c_str();
  for (const json::value& service : object.at("services").as_array()) {
    names.services[service.at("id").to_number<std::uint32_t>()] =
        service.at("name").as_string().c_str();
  }
  for (const json::value& backend : object.at("backends").as_array()) {
    names.backends[backend.at("id").to_number<std::uint32_t>()] = {
        backend.at("name").as_string().c_str(), backend.at("service").as_string().c_str()};
  }
  return names;
}

std::string unnamed(std::uint32_t id) {
  return id == 0 ? "" : "#" + std::to_string(id);
}

}  // namespace

Result<Names> Names::parse(std::string_view line) {
  boost::system::error_code error;
  const json::value value = json::parse(line, error);
  if (error || !value.is_object()) {
    return Error(ExitCode::kRuntime, "the agent's answer is no JSON object");
  }
  const json::value* schema = value.as_object().if_contains("schema");
  if (schema == nullptr || !schema->is_string() || schema->as_string() != kSchema) {
    return Error(ExitCode::kConflict, "the agent's answer is not of schema " +
                                          std::string(kSchema) + ": is it of another version?");
  }
  try {
    return read(value.as_object());
  } catch (const std::exception& failure) {
    return Error(ExitCode::kRuntime, std::string("the agent's answer: ") + failure.what());
  }
}

std::string Names::service(std::uint32_t id) const {
  const auto found = services.find(id);
  return found != services.end() ? found->second : unnamed(id);
}

std::string Names::backend(std::uint32_t id) const {
  const auto found = backends.find(id);
  return found != backends.end() ? found->second.name : unnamed(id);
}

Result<std::set<std::uint32_t>> Names::service_ids(std::string_view name) const {
  std::set<std::uint32_t> ids;
  for (const auto& [id, text] : services) {
    if (text == name) ids.insert(id);
  }
  if (!ids.empty()) return ids;
  return Error(ExitCode::kUsage,
               "no service is called " + std::string(name) + ": there is " +
                   listed(services, [](const std::string& text) { return text; }));
}

Result<std::set<std::uint32_t>> Names::backend_ids(std::string_view name,
                                                   std::string_view service) const {
  std::set<std::uint32_t> ids;
  for (const auto& [id, backend] : backends) {
    if (backend.name == name && (service.empty() || backend.service == service)) ids.insert(id);
  }
  if (!ids.empty()) return ids;
  return Error(ExitCode::kUsage, "no backend is called " + std::string(name) + ": there is " +
                                     listed(backends, [](const BackendName& backend) {
                                       return backend.service + "/" + backend.name;
                                     }));
}

}  // namespace petrel::tap
