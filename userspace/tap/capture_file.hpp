// SPDX-License-Identifier: MIT
// CaptureFile: tapped packets as a pcapng file: as they came, and as they left, with what was
// decided as their comments. Both have one packet id.
#pragma once

#include <cstdint>
#include <map>
#include <ostream>
#include <span>
#include <string>

#include "tap/names.hpp"
#include "tap/pcapng.hpp"
#include "tap/report.hpp"
#include "tap/sample.hpp"

namespace petrel::tap {

struct CaptureFileOptions {
  std::string application = "petrel";
  Sides sides = Sides::kBoth;
  std::uint32_t snapshot_bytes = 0;  // at most so many of each packet; 0: all that the tap has
  std::uint64_t wall_offset_ns = 0;
};

class CaptureFile {
 public:
  // `out` must outlive it.
  CaptureFile(std::ostream& out, CaptureFileOptions options)
      : options_(std::move(options)), writer_(out, options_.application) {}

  void write(const TappedPacket& packet, const Names& names);

 private:
  void write_side(const Sample& sample, std::uint32_t interface_id, Direction direction,
                  const std::string& comment, const TappedPacket& packet);
  std::uint32_t interface_id(std::uint32_t ifindex);

  CaptureFileOptions options_;
  PcapngWriter writer_;
  std::map<std::uint32_t, std::uint32_t> interface_ids_;  // by ifindex; 0: not known
};

}  // namespace petrel::tap
