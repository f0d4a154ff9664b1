// SPDX-License-Identifier: MIT
#include "traffic/process_limits.hpp"

#include <sys/resource.h>

namespace petrel::traffic {

void raise_open_files_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace petrel::traffic
