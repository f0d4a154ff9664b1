// SPDX-License-Identifier: MIT
// A packet in a few words: "10.0.0.7:51812 > 10.9.9.9:80 TCP [S]".
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace petrel::tap {

// Of an Ethernet frame, perhaps cut short: says as much as is there. Encapsulated packets are shown
// inside their outer addresses: "172.16.3.7 > 10.1.0.2 (10.0.0.7:51812 > 10.9.9.9:80 TCP [S])".
std::string summarize(std::span<const std::byte> frame);

}  // namespace petrel::tap
