// SPDX-License-Identifier: MIT
// Limits of this process that thousands of sockets would meet.
#pragma once

namespace petrel::traffic {

// Raises the number of open files to the hard limit. The usual soft limit of 1024 would show as
// failing connections; where it cannot be raised, those failures are reported one by one.
void raise_open_files_limit();

}  // namespace petrel::traffic
