// SPDX-License-Identifier: MIT
// The bytes of a request, which are the same for each of its attempts: nothing in them tells a
// retry from a first attempt.
#pragma once

#include <cstdint>
#include <string>

namespace petrel::traffic {

struct RequestText {
  std::string host;
  std::string path = "/";
  bool keep_alive = false;
  // When not empty: a header of this name with the request's number, behind all others, for proxies
  // whose own logs are to name the request.
  std::string id_header = {};
};

std::string to_bytes(const RequestText& text, std::uint64_t request);

// The path of a user's request that draws from `paths` of them; with one there is only "/".
std::string path_of(std::uint64_t drawn, std::uint64_t paths);

// What pollers ask for.
inline constexpr const char* kPollPath = "/poll";

}  // namespace petrel::traffic
