// SPDX-License-Identifier: MIT
// Small files in agent.state_dir, read and written whole. Both wait for the disk: beside the loop, but
// at the agent's start.
#pragma once

#include <string>

#include "base/error.hpp"

namespace petrel {

// "" where there is no such file.
Result<std::string> read_file_whole(const std::string& path);
// Whole or not at all; makes the folder.
Result<void> write_file_whole(const std::string& path, const std::string& text);

}  // namespace petrel
