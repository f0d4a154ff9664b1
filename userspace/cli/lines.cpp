// SPDX-License-Identifier: MIT
#include "cli/lines.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace petrel::cli {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;  // also the longest line

}  // namespace

Result<LineInput> LineInput::open(const std::string& path) {
  LineInput input(path == "-" ? "stdin" : path);
  input.buffer_ = std::make_unique<char[]>(kBlockBytes);
  if (path == "-") return input;
  input.file_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!input.file_) {
    return Error(ExitCode::kInput, Error::from_errno(errno, "read " + path).message());
  }
  return input;
}

std::string LineInput::place() const {
  return name_ + ": line " + std::to_string(lines_) + ": ";
}

// Reads behind what is there, which moves to the buffer's beginning; false at the end.
Result<bool> LineInput::fill() {
  std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
  scanned_ -= begin_;
  end_ -= begin_;
  begin_ = 0;
  if (end_ == kBlockBytes) {
    return Error(ExitCode::kInput, name_ + ": line " + std::to_string(lines_ + 1) +
                                       ": expected at most " + std::to_string(kBlockBytes) +
                                       " bytes, found more");
  }
  ssize_t got = 0;
  do {
    got = ::read(file_ ? file_.get() : STDIN_FILENO, buffer_.get() + end_, kBlockBytes - end_);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    return Error(ExitCode::kInput, Error::from_errno(errno, "read " + name_).message());
  }
  end_ += static_cast<std::size_t>(got);
  return got > 0;
}

Result<bool> LineInput::next(std::string_view& line) {
  for (;;) {
    const char* const from = buffer_.get() + scanned_;
    const auto* const newline = static_cast<const char*>(std::memchr(from, '\n', end_ - scanned_));
    if (newline != nullptr) {
      const auto at = static_cast<std::size_t>(newline - buffer_.get());
      line = {buffer_.get() + begin_, at - begin_};
      begin_ = scanned_ = at + 1;
      break;
    }
    scanned_ = end_;
    const auto more = fill();
    if (!more) return more.error();
    if (*more) continue;
    if (begin_ == end_) return false;
    line = {buffer_.get() + begin_, end_ - begin_};
    begin_ = scanned_ = end_;
    break;
  }
  lines_++;
  if (line.ends_with('\r')) line.remove_suffix(1);
  return true;
}

BlockOutput::BlockOutput() {
  text_.reserve(2 * kBlockBytes);
}

Result<void> BlockOutput::write_full_blocks() {
  if (text_.size() < kBlockBytes) return {};
  return flush();
}

Result<void> BlockOutput::flush() {
  std::string_view left = text_;
  while (!left.empty()) {
    const ssize_t put = ::write(STDOUT_FILENO, left.data(), left.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Error::from_errno(errno, "write stdout");
    left.remove_prefix(static_cast<std::size_t>(put));
  }
  text_.clear();
  return {};
}

}  // namespace petrel::cli
