// SPDX-License-Identifier: MIT
// Lines of a file or of stdin, and stdout, in large blocks: for millions of short lines.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/unique_fd.hpp"

namespace petrel::cli {

class LineInput {
 public:
  static Result<LineInput> open(const std::string& path);  // "-": stdin

  // Without "\n" or "\r\n", valid until the next call; false at the end. A last line needs no
  // newline.
  Result<bool> next(std::string_view& line);

  // "FILE: line 3: "
  std::string place() const;

 private:
  explicit LineInput(std::string name) : name_(std::move(name)) {}
  Result<bool> fill();

  std::string name_;
  UniqueFd file_;  // none: stdin
  std::unique_ptr<char[]> buffer_;
  std::size_t begin_ = 0;    // of what is not taken yet
  std::size_t scanned_ = 0;  // no newline before here
  std::size_t end_ = 0;
  std::size_t lines_ = 0;
};

// Collects in text(); full blocks are written. A closed pipe is an error as any other.
class BlockOutput {
 public:
  BlockOutput();
  std::string& text() { return text_; }
  Result<void> write_full_blocks();  // call after each line
  Result<void> flush();

 private:
  std::string text_;
};

}  // namespace petrel::cli
