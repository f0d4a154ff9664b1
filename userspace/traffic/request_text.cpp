// SPDX-License-Identifier: MIT
#include "traffic/request_text.hpp"

namespace petrel::traffic {

namespace {

// As long as those of browsers, so that an id header stands where one would stand in real requests.
constexpr const char* kUserAgent =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) petrel-traffic";

}  // namespace

std::string to_bytes(const RequestText& text, std::uint64_t request) {
  std::string bytes = "GET " + text.path + " HTTP/1.1\r\nHost: " + text.host +
                      "\r\nConnection: " + (text.keep_alive ? "keep-alive" : "close") + "\r\n";
  if (!text.id_header.empty()) {
    bytes += std::string("User-Agent: ") + kUserAgent +
             "\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
             text.id_header + ": " + std::to_string(request) + "\r\n";
  }
  return bytes + "\r\n";
}

std::string path_of(std::uint64_t drawn, std::uint64_t paths) {
  return paths <= 1 ? "/" : "/p" + std::to_string(drawn);
}

}  // namespace petrel::traffic
