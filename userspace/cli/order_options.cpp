// SPDX-License-Identifier: MIT
#include "cli/order_options.hpp"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

#include "api/client.hpp"
#include "cli/duration.hpp"

namespace petrel::cli {

std::string who() {
  const char* sudo_user = std::getenv("SUDO_USER");
  if (sudo_user != nullptr && *sudo_user != '\0') return sudo_user;
  const passwd* user = ::getpwuid(::getuid());
  return user != nullptr ? user->pw_name : "uid " + std::to_string(::getuid());
}

void OrderOptions::add(CLI::App& command, const std::string& otherwise) {
  lasts = otherwise;
  command
      .add_option("--for", lasts,
                  "How long: 90s, 10m, 2h, 7d (30 days at most), or `forever`: until released")
      ->capture_default_str();
  command.add_option("--reason", reason, "Why, for `petrel status` and the logs");
}

Result<std::string> OrderOptions::query() const {
  std::string query = "&by=" + percent_encode(who());
  if (!reason.empty()) query += "&reason=" + percent_encode(reason);
  if (lasts == "forever") return query;
  const auto seconds = parse_duration_s(lasts);
  if (!seconds) {
    return Error(ExitCode::kUsage,
                 "--for: expected a duration such as 90s, 10m, 2h or 7d, or forever, found '" +
                     lasts + "'");
  }
  return query + "&for_s=" + fmt::format("{}", *seconds);
}

}  // namespace petrel::cli
