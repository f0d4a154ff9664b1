// SPDX-License-Identifier: MIT
#include "capture/client_mask.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>

#include "base/unique_fd.hpp"
#include "config/address.hpp"

namespace petrel {
namespace {

constexpr std::size_t kKeptBytesV4 = 12 + 3;  // of ::ffff:a.b.c.d
constexpr std::size_t kKeptBytesV6 = 6;
constexpr std::size_t kHashDigits = 16;

}  // namespace

bpf::address ClientMask::mask(const bpf::address& client) const {
  bpf::address masked{};
  switch (privacy_) {
    case ClientPrivacy::kNone:
      return client;
    case ClientPrivacy::kTruncate:
      std::copy_n(client.bytes, is_v4(client) ? kKeptBytesV4 : kKeptBytesV6, masked.bytes);
      break;
    case ClientPrivacy::kHash: {
      const std::uint64_t hash = siphash24(key_, client.bytes);
      for (int i = 0; i < 8; ++i) masked.bytes[i] = static_cast<std::uint8_t>(hash >> (56 - 8 * i));
      break;
    }
  }
  return masked;
}

std::string ClientMask::text(const bpf::address& masked) const {
  if (privacy_ != ClientPrivacy::kHash) return to_string(masked);
  std::string digits;
  for (int i = 0; i < 8; ++i) {
    digits += "0123456789abcdef"[masked.bytes[i] >> 4];
    digits += "0123456789abcdef"[masked.bytes[i] & 15];
  }
  return digits;
}

bool ClientMask::parse(const std::string& text, bpf::address& masked) {
  if (const auto address = parse_address(text)) {
    masked = *address;
    return true;
  }
  if (text.size() != kHashDigits) return false;
  std::uint64_t hash = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), hash, 16);
  if (code != std::errc() || end != text.data() + text.size()) return false;
  masked = {};
  for (int i = 0; i < 8; ++i) masked.bytes[i] = static_cast<std::uint8_t>(hash >> (56 - 8 * i));
  return true;
}

Result<SipKey> read_key_file(const std::string& path) {
  const std::string what = "read client_privacy_key_file " + path;
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return Error(ExitCode::kInput, Error::from_errno(errno, what).message());
  struct stat facts{};
  if (::fstat(file.get(), &facts) != 0) return Error::from_errno(errno, what);
  if ((facts.st_mode & 077) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof(mode), "%04o", facts.st_mode & 07777u);
    return Error(ExitCode::kInput, what + ": expected a file that only its owner may read (mode "
                                          "0600 or 0400), found mode " + mode);
  }
  std::array<std::uint8_t, 17> bytes{};  // one more, to see a file that is too long
  const ssize_t count = ::read(file.get(), bytes.data(), bytes.size());
  if (count < 0) return Error(ExitCode::kInput, Error::from_errno(errno, what).message());
  if (count != 16) {
    return Error(ExitCode::kInput,
                 what + ": expected 16 bytes, found " +
                     (count > 16 ? std::string("more") : std::to_string(count)) +
                     ": make one with `head -c 16 /dev/urandom > FILE; chmod 0600 FILE`");
  }
  SipKey key{};
  std::copy_n(bytes.begin(), key.size(), key.begin());
  return key;
}

}  // namespace petrel
