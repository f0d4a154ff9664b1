// SPDX-License-Identifier: MIT
// Pinned maps, opened for reading only: to look at a running petrel changes nothing of it, and
// needs no agent.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "base/unique_fd.hpp"

namespace petrel::inspect {

struct PinnedMap {
  UniqueFd fd;
  std::uint32_t entries = 0;
};

// kUnreachable: nothing is pinned there. kConflict: keys or values are of other sizes.
Result<PinnedMap> open_pinned_map(const std::string& pin_path, const std::string& name,
                                  std::size_t key_bytes, std::size_t value_bytes,
                                  bool to_be_mapped);

template <class Key, class Value>
Result<PinnedMap> open_pinned_map(const std::string& pin_path, const std::string& name,
                                  bool to_be_mapped = false) {
  return open_pinned_map(pin_path, name, sizeof(Key), sizeof(Value), to_be_mapped);
}

// A BPF_F_MMAPABLE array, as it is at the moment of each access. The kernel rounds each element up
// to 8 bytes.
template <class T>
class ReadOnlyArray {
 public:
  static Result<ReadOnlyArray> open(const std::string& pin_path, const std::string& name) {
    auto map = open_pinned_map<std::uint32_t, T>(pin_path, name, true);
    if (!map) return map.error();
    ReadOnlyArray array;
    array.entries_ = map->entries;
    void* base = ::mmap(nullptr, array.bytes(), PROT_READ, MAP_SHARED, map->fd.get(), 0);
    if (base == MAP_FAILED) return Error::from_errno(errno, "map " + name + " into memory");
    array.base_ = static_cast<const std::byte*>(base);
    return array;
  }

  ReadOnlyArray() = default;
  ReadOnlyArray(ReadOnlyArray&& other) noexcept { *this = std::move(other); }
  ReadOnlyArray& operator=(ReadOnlyArray&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(entries_, other.entries_);
    return *this;
  }
  ~ReadOnlyArray() {
    if (base_ != nullptr) ::munmap(const_cast<std::byte*>(base_), bytes());
  }

  std::uint32_t size() const { return entries_; }
  // As a program sees it: what is not there is all zero.
  T at(std::uint32_t index) const {
    return index < entries_ ? *reinterpret_cast<const T*>(base_ + std::size_t{index} * kStride)
                            : T{};
  }

 private:
  static constexpr std::size_t kStride = (sizeof(T) + 7) / 8 * 8;
  static constexpr std::size_t kPage = 4096;

  std::size_t bytes() const { return (entries_ * kStride + kPage - 1) / kPage * kPage; }

  const std::byte* base_ = nullptr;
  std::uint32_t entries_ = 0;
};

}  // namespace petrel::inspect
