// SPDX-License-Identifier: MIT
#include "trainer/manifest.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <fstream>
#include <iterator>
#include <optional>

#include "score/json_fields.hpp"

namespace petrel {
namespace {

namespace json = boost::json;

constexpr std::string_view kSchema = "petrel/dataset/v1";
constexpr size_t kLongestName = 120;
constexpr size_t kMostFaults = 1000;
constexpr std::string_view kNoFault = "none";

void read_run(const json::value& value, const std::string& path, Manifest& manifest,
              std::optional<InputProblem>& error) {
  Fields fields(value, path, error);
  const std::string name = fields.text("run", kLongestName);
  std::vector<std::string> kinds;
  for (const std::string& kind : fields.texts("faults", kMostFaults, kLongestName)) {
    const bool known = std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
    if (kind != kNoFault && !known) kinds.push_back(kind);
  }
  if (!manifest.faults.emplace(name, std::move(kinds)).second) {
    fields.fail("run", "each run once", json::value(name));
  }
}

}  // namespace

const std::vector<std::string>* Manifest::of(const std::string& run) const {
  const auto found = faults.find(run);
  return found == faults.end() ? nullptr : &found->second;
}

Result<Manifest> parse_manifest(std::string_view text, const std::string& source) {
  Manifest manifest;
  std::optional<InputProblem> error;
  boost::system::error_code code;
  const json::value document = json::parse(json::string_view(text.data(), text.size()), code);
  if (code) {
    error = InputProblem{"", "JSON", code.message()};
  } else {
    Fields fields(document, "", error);
    const std::string schema = fields.text("schema", kLongestName);
    if (schema != kSchema) {
      fields.fail("schema", "\"" + std::string(kSchema) + "\"", json::value(schema));
    }
    const json::array* const runs = fields.any("runs").if_array();
    if (runs == nullptr) fields.fail("runs", "a list", fields.any("runs"));
    for (size_t i = 0; runs != nullptr && i < runs->size() && !error; i++) {
      read_run((*runs)[i], "runs[" + std::to_string(i) + "]", manifest, error);
    }
  }
  if (error) return Error(ExitCode::kInput, "manifest " + source + ": " + error->text());
  return manifest;
}

Result<Manifest> read_manifest(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.is_open() || file.bad()) {
    return Error(ExitCode::kInput, Error::from_errno(errno, "read manifest " + path).message());
  }
  return parse_manifest(text, path);
}

std::vector<FaultRows> rows_by_fault(std::span<const Run> runs, const Manifest& manifest) {
  std::map<std::string, FaultRows> by_fault;
  std::uint64_t all = 0;
  for (const Run& run : runs) {
    const std::vector<std::string>* const faults = manifest.of(run.name);
    if (faults == nullptr) continue;
    const std::string leading = faults->empty() ? std::string(kNoFault) : faults->front();
    FaultRows& it = by_fault[leading];
    it.fault = leading;
    it.runs++;
    it.rows += run.rows.size();
    all += run.rows.size();
  }
  std::vector<FaultRows> result;
  for (auto& [fault, it] : by_fault) {
    if (all > 0) it.share = static_cast<double>(it.rows) / static_cast<double>(all);
    result.push_back(std::move(it));
  }
  return result;
}

}  // namespace petrel
