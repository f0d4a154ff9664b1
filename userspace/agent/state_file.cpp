// SPDX-License-Identifier: MIT
#include "agent/state_file.hpp"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace petrel {

Result<std::string> read_file_whole(const std::string& path) {
  std::error_code code;
  if (!std::filesystem::exists(path, code) && !code) return std::string();
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) return Error::from_errno(errno == 0 ? EIO : errno, "read " + path);
  return text;
}

Result<void> write_file_whole(const std::string& path, const std::string& text) {
  std::error_code code;
  const auto directory = std::filesystem::path(path).parent_path();
  std::filesystem::create_directories(directory, code);
  if (code) return Error::from_errno(code.value(), "create " + directory.string());
  const std::string temporary = path + ".tmp";
  errno = 0;
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) return Error::from_errno(errno == 0 ? EIO : errno, "write " + temporary);
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    return Error::from_errno(errno, "rename " + temporary);
  }
  return {};
}

}  // namespace petrel
