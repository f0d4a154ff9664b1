// SPDX-License-Identifier: MIT
#include "inspect/diff_report.hpp"

#include <fmt/format.h>

#include <boost/json.hpp>

namespace petrel::inspect {
namespace {

namespace json = boost::json;

char sign_of(Change change) {
  return change == Change::kAdded ? '+' : change == Change::kRemoved ? '-' : '~';
}

std::string field_lines(const std::vector<FieldChange>& fields, std::string_view indent) {
  std::string text;
  for (const FieldChange& field : fields) {
    text += fmt::format("{}{}: {} -> {}\n", indent, field.field, field.from, field.to);
    if (!field.note.empty()) text += fmt::format("{}  ({})\n", indent, field.note);
  }
  return text;
}

std::string backend_lines(const BackendChange& backend) {
  std::string text =
      fmt::format("    {} backend {} ({})", sign_of(backend.change), backend.name, backend.address);
  if (backend.connections > 0) {
    text += fmt::format(": {} established{}", backend.connections,
                        backend.fate.empty() ? " stay" : ": " + backend.fate);
  }
  return text + "\n" + field_lines(backend.fields, "        ");
}

std::string ring_line(const RingMove& ring) {
  std::string text = fmt::format("    {:.1f} % of its new connections go to another backend",
                                 100 * ring.share);
  if (ring.slots_before != ring.slots_after) {
    text += fmt::format(" (the ring's length: {} -> {})", ring.slots_before, ring.slots_after);
  }
  return text + fmt::format("\n      new neutral ring: {:.1f} % unlike the ring in force, {:.1f} % "
                            "unlike the neutral one\n",
                            100 * ring.from_in_force, 100 * ring.from_neutral);
}

std::string service_lines(const ServiceChange& service) {
  std::string text = fmt::format("{} service {}{} {}\n", sign_of(service.change),
                                 service.name.empty() ? "" : service.name + " ", service.address,
                                 service.protocol) +
                     field_lines(service.fields, "    ");
  for (const BackendChange& backend : service.backends) text += backend_lines(backend);
  if (service.change == Change::kRemoved) {
    text += "    its new connections pass untouched\n";
  }
  return service.ring ? text + ring_line(*service.ring) : text;
}

json::array fields_json(const std::vector<FieldChange>& fields) {
  json::array list;
  for (const FieldChange& field : fields) {
    list.push_back({{"field", field.field},
                    {"from", field.from},
                    {"to", field.to},
                    {"note", field.note.empty() ? json::value(nullptr) : json::value(field.note)}});
  }
  return list;
}

json::value ring_json(const std::optional<RingMove>& ring) {
  if (!ring) return nullptr;
  return {{"slots_before", ring->slots_before},
          {"slots_after", ring->slots_after},
          {"moved_share", ring->share},
          {"neutral_unlike_in_force", ring->from_in_force},
          {"neutral_unlike_neutral", ring->from_neutral}};
}

json::value service_json(const ServiceChange& service) {
  json::array backends;
  for (const BackendChange& backend : service.backends) {
    backends.push_back(
        {{"change", change_name(backend.change)},
         {"name", backend.name},
         {"address", backend.address},
         {"fields", fields_json(backend.fields)},
         {"established", backend.connections},
         {"fate", backend.fate.empty() ? json::value(nullptr) : json::value(backend.fate)}});
  }
  return {{"change", change_name(service.change)},
          {"name", service.name.empty() ? json::value(nullptr) : json::value(service.name)},
          {"address", service.address},
          {"protocol", service.protocol},
          {"fields", fields_json(service.fields)},
          {"backends", std::move(backends)},
          {"ring", ring_json(service.ring)}};
}

}  // namespace

std::string diff_text(const Diff& diff) {
  if (diff.empty()) {
    return fmt::format("no difference; {} established connections\n", diff.connections);
  }
  std::string text;
  if (!diff.agent.empty()) text += "~ agent\n" + field_lines(diff.agent, "    ");
  for (const ServiceChange& service : diff.services) text += service_lines(service);
  return text + fmt::format("{} of {} established connections are on backends that would go or "
                            "drain; nothing was changed\n",
                            diff.leaving, diff.connections);
}

std::string diff_json(const Diff& diff) {
  json::array services;
  for (const ServiceChange& service : diff.services) services.push_back(service_json(service));
  return json::serialize(json::object{{"schema", "petrel/check-diff/v1"},
                                      {"differs", !diff.empty()},
                                      {"agent", fields_json(diff.agent)},
                                      {"services", std::move(services)},
                                      {"established", diff.connections},
                                      {"established_leaving", diff.leaving}});
}

}  // namespace petrel::inspect
