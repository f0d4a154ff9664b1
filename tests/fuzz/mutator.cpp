// SPDX-License-Identifier: MIT
#include "tests/fuzz/mutator.hpp"

#include <algorithm>

namespace petrel::fuzz {
namespace {

constexpr std::size_t kSeen = 64;
constexpr std::size_t kMaxFrame = 2048;
constexpr std::uint8_t kEdges[] = {0, 1, 2, 4, 5, 6, 8, 17, 43, 44, 58, 60, 64, 127, 128, 254, 255};

}  // namespace

void Mutator::mutate(Frame& frame) {
  const Frame whole = frame;
  if (rng_.one_in(3)) {
    if (rng_.one_in(8) && !seen_.empty()) {
      frame = rng_.pick(seen_);  // again, as it was
    } else {
      for (std::uint32_t i = 0, count = 1 + rng_.below(3); i < count; ++i) change(frame);
      // Without right checksums most stacks would not look further; the balancer looks at none.
      if (rng_.one_in(2)) repair_checksums(frame);
    }
    frame.resize(std::clamp(frame.size(), std::size_t{14}, kMaxFrame));  // the kernel's least
  }
  if (rng_.one_in(4)) seen_.push_back(whole);
  if (seen_.size() > kSeen) seen_.pop_front();
}

void Mutator::change(Frame& frame) {
  if (frame.empty()) return;
  switch (rng_.below(10)) {
    case 0:
    case 1:
      frame[rng_.below(frame.size())] ^= static_cast<std::uint8_t>(1U << rng_.below(8));
      break;
    case 2: frame[rng_.below(std::min<std::size_t>(frame.size(), 80))] = rng_.pick(kEdges); break;
    case 3:
    case 4: change_length(frame); break;
    case 5:
    case 6:
    case 7: change_header(frame); break;
    case 8: splice(frame); break;
    default:
      for (std::uint32_t i = 0, at = rng_.below(frame.size()); i < 4 && at + i < frame.size(); ++i)
        frame[at + i] = rng_.byte();
  }
}

// Fields by name, in the headers that the frame has.
void Mutator::change_header(Frame& frame) {
  const View view = view_of(frame);
  if (view.kind != Kind::kGood) return;
  switch (rng_.below(9)) {
    case 0: frame[view.l3 + (view.v6 ? 7U : 8U)] = rng_.one_in(2) ? rng_.byte() : 1; break;  // TTL
    case 1: frame[view.l3 + (view.v6 ? 6U : 9U)] = rng_.pick(kEdges); break;  // protocol
    case 2: frame[view.l3] = static_cast<std::uint8_t>(rng_.one_in(2) ? 0x40 | rng_.below(16)
                                                                      : rng_.byte()); break;
    case 3: frame[view.l3 + 1] = rng_.byte(); break;  // TOS
    case 4:
      if (!view.v6) store16(frame, view.l3 + 6, rng_.one_in(2) ? 0x2000 : rng_.word() & 0xffff);
      break;
    case 5:
      if (view.transport && view.tcp()) frame[view.l4 + 13] = rng_.byte();  // flags
      break;
    case 6:
      if (view.transport && view.tcp()) frame[view.l4 + 12] = rng_.byte();  // data offset
      break;
    case 7:
      if (view.l4 + 4 <= view.end)
        store16(frame, view.l4 + 2 * rng_.below(2),
                rng_.one_in(2) ? rng_.below(2100) : rng_.word());
      break;
    default:  // its ends change places
      std::swap_ranges(frame.begin() + view.l3 + (view.v6 ? 8 : 12),
                       frame.begin() + view.l3 + (view.v6 ? 24 : 16),
                       frame.begin() + view.l3 + (view.v6 ? 24 : 16));
  }
}

// What the frame has, or what it claims to have.
void Mutator::change_length(Frame& frame) {
  const View view = view_of(frame);
  switch (rng_.below(4)) {
    case 0: frame.resize(rng_.below(frame.size() + 1)); break;
    case 1: frame.resize(std::min(frame.size() + rng_.below(64), kMaxFrame), rng_.byte()); break;
    case 2: frame.resize(kMaxFrame - rng_.below(600), rng_.byte()); break;
    default: break;
  }
  if (view.kind != Kind::kGood || frame.size() < view.l3 + 8 || rng_.one_in(3)) return;
  const std::size_t at = view.l3 + (view.v6 ? 4U : 2U);
  const std::size_t now = frame.size() - view.l3 - (view.v6 ? 40U : 0U);
  switch (rng_.below(4)) {
    case 0: store16(frame, at, rng_.word() & 0xffff); break;
    case 1: store16(frame, at, static_cast<std::uint32_t>(now) & 0xffff); break;  // as it is
    case 2: store16(frame, at, static_cast<std::uint32_t>(now + rng_.below(5) - 2) & 0xffff); break;
    default: store16(frame, at, (load16(frame, at) + rng_.below(17) - 8) & 0xffff);
  }
}

// Its beginning, and the end of another.
void Mutator::splice(Frame& frame) {
  if (seen_.empty()) return;
  const Frame& other = rng_.pick(seen_);
  const std::size_t cut = rng_.below(std::min(frame.size(), other.size()) + 1);
  frame.resize(cut);
  frame.insert(frame.end(), other.begin() + static_cast<std::ptrdiff_t>(cut), other.end());
}

}  // namespace petrel::fuzz
