// SPDX-License-Identifier: MIT
#include "traffic/request_text.hpp"

#include <algorithm>
#include <cmath>
#include <random>

namespace petrel::traffic {

namespace {

// As long as those of browsers, so that an id header stands where one would stand in real requests.
constexpr const char* kUserAgent =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) petrel-traffic";

}  // namespace

std::string to_bytes(const RequestText& text, std::uint64_t request) {
  std::string bytes = (text.post_bytes ? "POST " : "GET ") + text.path +
                      " HTTP/1.1\r\nHost: " + text.host +
                      "\r\nConnection: " + (text.keep_alive ? "keep-alive" : "close") + "\r\n";
  if (text.post_bytes) {
    bytes += "Content-Type: application/octet-stream\r\nContent-Length: " +
             std::to_string(*text.post_bytes) + "\r\n";
  }
  if (!text.id_header.empty()) {
    bytes += std::string("User-Agent: ") + kUserAgent +
             "\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
             text.id_header + ": " + std::to_string(request) + "\r\n";
  }
  bytes += "\r\n";
  return bytes.append(text.post_bytes.value_or(0), 'x');
}

std::uint64_t draw_post_bytes(double mean, Random& random) {
  // A lognormal's mean is exp(mu + sigma^2 / 2).
  std::normal_distribution<double> normal(-0.5, 1);
  const double drawn = std::round(mean * std::exp(normal(random.engine())));
  return static_cast<std::uint64_t>(std::min(drawn, static_cast<double>(kMostPostBytes)));
}

std::string path_of(std::uint64_t drawn, std::uint64_t paths) {
  return paths <= 1 ? "/" : "/p" + std::to_string(drawn);
}

}  // namespace petrel::traffic
