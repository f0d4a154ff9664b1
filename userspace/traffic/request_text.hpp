// SPDX-License-Identifier: MIT
// The bytes of a request, which are the same for each of its attempts: nothing in them tells a
// retry from a first attempt.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "traffic/random.hpp"

namespace petrel::traffic {

struct RequestText {
  std::string host;
  std::string path = "/";
  bool keep_alive = false;
  std::optional<std::uint64_t> post_bytes = {};  // POST with a body of this length; none: GET
  // When not empty: a header of this name with the request's number, behind all others, for proxies
  // whose own logs are to name the request.
  std::string id_header = {};
};

std::string to_bytes(const RequestText& text, std::uint64_t request);

// The path of a user's request that draws from `paths` of them; with one there is only "/".
std::string path_of(std::uint64_t drawn, std::uint64_t paths);

// The most that a body has: Beast takes 1 MiB of a request unless told otherwise.
inline constexpr std::uint64_t kMostPostBytes = 1'000'000;

// The length of a POST's body: lognormal with this mean and sigma 1, as the many small and few
// large ones of forms and uploads; cut at kMostPostBytes.
std::uint64_t draw_post_bytes(double mean, Random& random);

// What pollers ask for.
inline constexpr const char* kPollPath = "/poll";

}  // namespace petrel::traffic
