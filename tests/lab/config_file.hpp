// SPDX-License-Identifier: MIT
// ConfigFile: the configuration of a lab's agent, taken apart so that a test can change it: the first
// service's backends are blocks of text that can be moved, taken out and put back.
#pragma once

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace petrel::test {

struct ConfigFile {
  std::string head;                   // up to the first backend
  std::vector<std::string> backends;  // of the first service
  std::string tail;                   // what comes after them

  static ConfigFile read(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return parse(text.str());
  }

  static ConfigFile parse(const std::string& text) {
    const std::string mark = "[[service.backend]]\n";
    ConfigFile config;
    std::size_t at = text.find(mark);
    if (at == std::string::npos) throw std::runtime_error("a configuration without backends");
    config.head = text.substr(0, at);
    const std::size_t end = std::min(text.find("[[service]]", at), text.size());
    while (at < end) {
      const std::size_t next = std::min(text.find(mark, at + 1), end);
      config.backends.push_back(text.substr(at, next - at));
      at = next;
    }
    config.tail = text.substr(end);
    return config;
  }

  void write(const std::string& path) const {
    std::ofstream file(path, std::ios::trunc);
    file << head;
    for (const std::string& backend : backends) file << backend;
    file << tail;
    file.close();
    if (!file) throw std::runtime_error("write " + path);
  }
};

}  // namespace petrel::test
