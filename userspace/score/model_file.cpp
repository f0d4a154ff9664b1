// SPDX-License-Identifier: MIT
// A model's file: read whole or not at all, replaced whole or not at all.
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>

#include "score/model.hpp"

namespace petrel {
namespace {

// A hundred times what a model needs; keeps a wrong path (a device, a capture) out of memory.
constexpr size_t kLargestFileBytes = size_t{16} << 20;

}  // namespace

Result<std::string> read_model_text(const std::string& path, InputProblem* problem) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(kLargestFileBytes + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad()) {
    const int errno_value = errno;
    if (problem != nullptr) *problem = {"", "a file to read", errno_name(errno_value)};
    const Error cause = Error::from_errno(errno_value, "read model " + path);
    return Error(ExitCode::kInput, cause.message());
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kLargestFileBytes) {
    const InputProblem large{"", "at most " + std::to_string(kLargestFileBytes) + " bytes", "more"};
    if (problem != nullptr) *problem = large;
    return Error(ExitCode::kInput, "model " + path + ": " + large.text());
  }
  return text;
}

Result<Model> load_model(const std::string& path, InputProblem* problem) {
  const Result<std::string> text = read_model_text(path, problem);
  if (!text) return text.error();
  return parse_model(*text, path, problem);
}

Result<void> save_model(const Model& model, const std::string& path) {
  const std::string text = serialize_model(model);
  // What we could not load again is not worth writing: a caller's numbers were out of range.
  const Result<Model> again = parse_model(text, path);
  if (!again) return again.error().within("write");
  if (!(*again == model)) {
    return Error(ExitCode::kRuntime, "write model " + path +
                                         ": it would read back differently: round its numbers "
                                         "to 9 digits and quantize it first");
  }
  const std::string temporary = path + ".tmp";
  errno = 0;
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) return Error::from_errno(errno, "write model " + temporary);
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    return Error::from_errno(errno, "rename " + temporary + " to " + path);
  }
  return {};
}

}  // namespace petrel
