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

Error input_error_from_errno(const std::string& what) {
  const Error cause = Error::from_errno(errno, what);
  return Error(ExitCode::kInput, cause.message());
}

}  // namespace

Result<Model> load_model(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return input_error_from_errno("read model " + path);
  std::string text(kLargestFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return input_error_from_errno("read model " + path);
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kLargestFileBytes) {
    return Error(ExitCode::kInput, "model " + path + ": expected at most " +
                                       std::to_string(kLargestFileBytes) + " bytes, found more");
  }
  return parse_model(text, path);
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
