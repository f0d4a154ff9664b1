// SPDX-License-Identifier: MIT
#include "capture/words.hpp"

#include <array>
#include <cstddef>

#include "bpf/enums.h"

namespace petrel {
namespace {

// Values of a later version have no word.
template <std::size_t N>
std::string_view word(const std::array<std::string_view, N>& words, std::size_t value) {
  return value < N ? words[value] : "unknown";
}

constexpr std::array<std::string_view, bpf::FAILURE_KINDS> kFailures = {
    "none", "refused", "handshake_timeout", "reset", "abandoned", "empty", "overload",
    "server_error"};
constexpr std::array<std::string_view, 9> kClosedBy = {
    "nobody",  "client_fin", "client_rst", "backend_fin", "backend_rst",
    "timeout", "reuse",      "eviction",   "us"};
constexpr std::array<std::string_view, 11> kMethods = {
    "none", "other", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"};
constexpr std::array<std::string_view, 4> kOwners = {"none", "wire", "connecting", "accepting"};

}  // namespace

std::string_view capture_failure(std::uint8_t failure) { return word(kFailures, failure); }
std::string_view capture_closed_by(std::uint8_t closed_by) { return word(kClosedBy, closed_by); }
std::string_view capture_method(std::uint8_t method) { return word(kMethods, method); }
std::string_view capture_owner(std::uint8_t owner) { return word(kOwners, owner); }

}  // namespace petrel
