// SPDX-License-Identifier: MIT
// Endpoints as they are written on the command line: 10.0.0.1:80 or [fd00::1]:80.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace petrel::traffic {

Result<boost::asio::ip::tcp::endpoint> parse_endpoint(std::string_view text);

std::string to_text(const boost::asio::ip::tcp::endpoint& endpoint);

}  // namespace petrel::traffic
