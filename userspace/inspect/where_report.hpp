// SPDX-License-Identifier: MIT
// An Answer for people and for programs.
#pragma once

#include <string>

#include "inspect/where.hpp"

namespace petrel::inspect {

// `service_name`: the maps do not know it; "" if nobody does.
std::string where_text(const Answer& answer, const std::string& service_name);

// petrel/where/v1
std::string where_json(const Answer& answer, const std::string& service_name);

}  // namespace petrel::inspect
