// SPDX-License-Identifier: MIT
// MappedArray: a BPF_F_MMAPABLE array map, shared with the kernel through memory.
//
// The kernel rounds each element up to 8 bytes, so the stride is not sizeof(T). Elements are read
// and written in place while BPF programs run: whole aligned words only.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/error.hpp"

namespace petrel {

template <class T>
class MappedArray {
 public:
  static Result<MappedArray> open(int map_fd, std::uint32_t entries) {
    const std::size_t bytes = (entries * kStride + kPage - 1) / kPage * kPage;
    void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
    if (base == MAP_FAILED) return Error::from_errno(errno, "map array into memory");
    return MappedArray(static_cast<std::byte*>(base), bytes, entries);
  }

  MappedArray() = default;
  MappedArray(MappedArray&& other) noexcept { *this = std::move(other); }
  MappedArray& operator=(MappedArray&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(bytes_, other.bytes_);
    std::swap(entries_, other.entries_);
    return *this;
  }
  ~MappedArray() {
    if (base_ != nullptr) ::munmap(base_, bytes_);
  }

  std::uint32_t size() const { return entries_; }
  T& operator[](std::uint32_t index) {
    return *reinterpret_cast<T*>(base_ + std::size_t{index} * kStride);
  }
  const T& operator[](std::uint32_t index) const {
    return *reinterpret_cast<const T*>(base_ + std::size_t{index} * kStride);
  }

 private:
  static constexpr std::size_t kStride = (sizeof(T) + 7) / 8 * 8;
  static constexpr std::size_t kPage = 4096;

  MappedArray(std::byte* base, std::size_t bytes, std::uint32_t entries)
      : base_(base), bytes_(bytes), entries_(entries) {}

  std::byte* base_ = nullptr;
  std::size_t bytes_ = 0;
  std::uint32_t entries_ = 0;
};

}  // namespace petrel
