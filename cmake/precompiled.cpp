// SPDX-License-Identifier: MIT
// Empty: a target that only carries a precompiled header needs one file.
