// SPDX-License-Identifier: MIT
#include "capture/rotation.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>

namespace petrel {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStampForm = "00000000T000000.000Z";

bool is_stamp(std::string_view text) {
  return std::ranges::equal(text, kStampForm, [](char found, char form) {
    return form == '0' ? found >= '0' && found <= '9' : found == form;
  });
}

struct Name {
  fs::path directory;
  std::string stem;
  std::string extension;

  explicit Name(const std::string& path) {
    const fs::path whole(path.ends_with('/') ? path.substr(0, path.size() - 1) : path);
    directory = whole.parent_path();
    stem = whole.stem().string();
    extension = whole.extension().string();
  }
};

}  // namespace

std::string time_stamp(CaptureFiles::Time time) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch());
  const std::time_t seconds = static_cast<std::time_t>(ms.count() / 1000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32] = {};
  std::strftime(text, sizeof(text), "%Y%m%dT%H%M%S", &utc);
  char rest[16] = {};
  std::snprintf(rest, sizeof(rest), ".%03dZ", static_cast<int>(ms.count() % 1000));
  return std::string(text) + rest;
}

std::string CaptureFiles::name_at(Time now) const {
  if (!limits_.rotates()) return path_;
  const Name name(path_);
  return (name.directory / (name.stem + "-" + time_stamp(now) + name.extension)).string();
}

Result<void> CaptureFiles::open(Time now) {
  current_ = name_at(now);
  auto sink = create_(current_);
  if (!sink) return sink.error();
  sink_ = std::move(*sink);
  opened_ = now;
  ++files_;
  for (const auto& fields : meta_) {
    if (auto added = sink_->add(*find_capture_table("meta"), fields); !added) return added;
  }
  if (limits_.rotates() && limits_.keep != 0) remove_oldest();
  return {};
}

Result<void> CaptureFiles::add(const CaptureTable& table, const std::vector<std::string>& fields) {
  if (table.name == "meta") meta_.push_back(fields);
  return sink_->add(table, fields);
}

bool CaptureFiles::is_due(Time now) const {
  if (limits_.bytes != 0 && sink_->bytes() >= limits_.bytes) return true;
  return limits_.age.count() != 0 && now - opened_ >= limits_.age;
}

Result<void> CaptureFiles::rotate(Time now) {
  if (name_at(now) == current_) return {};  // within the same millisecond
  if (auto closed = sink_->close(); !closed) return closed;
  return open(now);
}

// By name: the stamp sorts as time does. One that cannot be removed stays.
void CaptureFiles::remove_oldest() const {
  const Name name(path_);
  std::vector<fs::path> files;
  std::error_code code;
  const fs::path directory = name.directory.empty() ? fs::path(".") : name.directory;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, code)) {
    const std::string file = entry.path().filename().string();
    if (file.size() != name.stem.size() + 1 + kStampForm.size() + name.extension.size() ||
        !file.starts_with(name.stem + "-") || !file.ends_with(name.extension) ||
        !is_stamp(std::string_view(file).substr(name.stem.size() + 1, kStampForm.size()))) {
      continue;
    }
    files.push_back(entry.path());
  }
  std::ranges::sort(files);
  for (std::size_t i = 0; i + limits_.keep < files.size(); ++i) {
    fs::remove_all(files[i], code);
    for (const char* suffix : {"-wal", "-shm"}) fs::remove(files[i].string() + suffix, code);
  }
}

}  // namespace petrel
