// SPDX-License-Identifier: MIT
// Manifest: which faults each run of a data set had (petrel/dataset/v1).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "telemetry/row.hpp"

namespace petrel {

struct Manifest {
  // By run, in order of the faults' beginnings, each kind once; "none" is left out.
  std::map<std::string, std::vector<std::string>> faults;

  // Runs that the manifest does not name have none known, and no part in what is said of faults.
  const std::vector<std::string>* of(const std::string& run) const;
};

// Members that are not known are passed over: the manifest is the data set's own.
Result<Manifest> read_manifest(const std::string& path);
Result<Manifest> parse_manifest(std::string_view text, const std::string& source);

// Runs by the fault that led them; "none" for those without any.
struct FaultRows {
  std::string fault;
  std::uint64_t runs = 0;
  std::uint64_t rows = 0;
  double share = 0;  // of the rows of all named runs
};
std::vector<FaultRows> rows_by_fault(std::span<const Run> runs, const Manifest& manifest);

}  // namespace petrel
