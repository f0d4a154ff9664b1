// SPDX-License-Identifier: MIT
// Which verdicts a packet may have.
#include "tests/fuzz/oracle.hpp"

#include <linux/bpf.h>

#include <algorithm>

namespace petrel::fuzz {
namespace {

constexpr std::uint64_t bit(bpf::verdict verdict) { return 1ULL << verdict; }

constexpr const char* kNames[] = {
#define PETREL_VERDICT_NAME(name, text, meaning) text,
    PETREL_VERDICTS(PETREL_VERDICT_NAME)
#undef PETREL_VERDICT_NAME
};

std::uint8_t ttl_of(Bytes in, const View& view) { return in[view.l3 + (view.v6 ? 7U : 8U)]; }

constexpr std::uint64_t kReplies = bit(bpf::VERDICT_LATE_BACKEND) | bit(bpf::VERDICT_GONE_RESET) |
                                   bit(bpf::VERDICT_OVER_BUDGET) | bit(bpf::VERDICT_OVER_LIMIT) |
                                   bit(bpf::VERDICT_RETRY_OVER_LIMIT);
constexpr std::uint64_t kSent = bit(bpf::VERDICT_FORWARDED) | bit(bpf::VERDICT_RETURNED) |
                                bit(bpf::VERDICT_KERNEL_ROUTED);

}  // namespace

std::uint64_t Oracle::allowed_icmp(Bytes in, const View& view) const {
  const bool to_vip = world_.is_vip(view.to);
  if (view.piece != Piece::kWhole || !view.icmp() || view.l4_bytes() < 8)
    return bit(bpf::VERDICT_NOT_OURS);
  const std::uint8_t type = in[view.l4];
  if (to_vip && type == (view.v6 ? 128 : 8) && in[view.l4 + 1] == 0) return bit(bpf::VERDICT_PING);
  const bool error = view.v6 ? type >= 1 && type <= 4 : type == 3 || type == 11 || type == 12;
  if (!error) return bit(to_vip ? bpf::VERDICT_NO_SERVICE : bpf::VERDICT_NOT_OURS);
  if (ttl_of(in, view) <= 1) return bit(bpf::VERDICT_TTL_EXPIRED);
  const std::uint64_t unmatched = bit(bpf::VERDICT_ICMP_UNMATCHED);
  const Quote quote = quote_of(in, view);
  if (!quote.good) return to_vip ? unmatched : bit(bpf::VERDICT_NOT_OURS);
  const std::uint64_t either =
      unmatched | bit(bpf::VERDICT_ICMP_FORWARDED) | bit(bpf::VERDICT_DROPPED);
  if (to_vip) {
    const Service* service = world_.service_at(quote.from, quote.from_port, quote.protocol);
    return service != nullptr && same(quote.from, view.to) ? either : unmatched;
  }
  const Backend* backend = world_.backend_at(quote.to, quote.to_port, quote.protocol);
  return backend != nullptr ? either : bit(bpf::VERDICT_NOT_OURS);
}

std::uint64_t Oracle::allowed_to_service(const View& view, const Service& service) const {
  std::uint64_t set = 0;
  const bool syn = view.tcp() && (view.tcp_flags & 0x12) == 0x02;
  for (const std::uint32_t id : service.backends) {
    const Backend& backend = world_.backend(id);
    // A service at its limits, and one of which some are down, may have nobody to ask.
    if (backend.state != bpf::BACKEND_UP) set |= bit(bpf::VERDICT_NO_BACKEND);
    if (backend.state == bpf::BACKEND_REMOVED) continue;
    set |= bit(hop_of(backend) ? bpf::VERDICT_FORWARDED : bpf::VERDICT_KERNEL_ROUTED);
    const std::size_t outer = !service.dsr() ? 0 : is_mapped(backend.at.address) ? 20 : 40;
    if (backend.mtu != 0 && view.end - view.l3 + outer > backend.mtu)
      set |= bit(bpf::VERDICT_TOO_BIG) | bit(bpf::VERDICT_KERNEL_ROUTED);
  }
  const std::uint64_t unanswered =
      (view.tcp_flags & 0x04) || view.piece != Piece::kWhole ? bit(bpf::VERDICT_DROPPED) : 0;
  if (syn && (service.flags & bpf::SERVICE_BUDGET))
    set |= bit(bpf::VERDICT_OVER_BUDGET) | unanswered;
  if (syn && (service.flags & bpf::SERVICE_ADMIT))
    set |= bit(bpf::VERDICT_OVER_LIMIT) | bit(bpf::VERDICT_RETRY_OVER_LIMIT) | unanswered;
  if (!syn && view.tcp() && (service.flags & bpf::SERVICE_RESET_GONE))
    set |= bit(bpf::VERDICT_GONE_RESET);
  return set;
}

std::uint64_t Oracle::allowed(Bytes in, const View& view) const {
  if (view.kind == Kind::kOther) return bit(bpf::VERDICT_NOT_OURS);
  if (view.kind == Kind::kMalformed) return bit(bpf::VERDICT_MALFORMED);
  // An IPv4 address in an IPv6 header is nobody's: RFC 4291, 2.5.5.2 has it on no wire.
  if (view.v6 && (is_mapped(view.from) || is_mapped(view.to)))
    return bit(bpf::VERDICT_NOT_OURS) | bit(bpf::VERDICT_MALFORMED);
  if (view.protocol == 1 || view.protocol == 58) return allowed_icmp(in, view);
  const bool to_vip = world_.is_vip(view.to);
  const bool ours = to_vip || world_.is_backend(view.from) || world_.is_vip(view.from);
  if (view.protocol != 6 && view.protocol != 17) return bit(bpf::VERDICT_NOT_OURS);
  if (!ours) {
    // Passed untouched; a stranger may share a bit of the filter with one of ours.
    return bit(bpf::VERDICT_NOT_OURS) |
           (view.piece == Piece::kLater ? bit(bpf::VERDICT_FRAGMENT)
            : view.transport            ? 0
                                        : bit(bpf::VERDICT_MALFORMED));
  }
  if (view.piece == Piece::kLater)
    return bit(bpf::VERDICT_FRAGMENT) | kSent | bit(bpf::VERDICT_DROPPED);
  if (!view.transport) return bit(bpf::VERDICT_MALFORMED);
  const std::uint64_t expired = bit(bpf::VERDICT_TTL_EXPIRED);
  if (to_vip) {
    const Service* service = world_.service_at(view.to, view.to_port, view.protocol);
    if (service == nullptr) return bit(bpf::VERDICT_NO_SERVICE);
    if (!(service->flags & bpf::SERVICE_READY)) return bit(bpf::VERDICT_NOT_READY);
    return ttl_of(in, view) <= 1 ? expired : allowed_to_service(view, *service);
  }
  const Backend* backend = world_.backend_at(view.from, view.from_port, view.protocol);
  if (backend == nullptr) return bit(bpf::VERDICT_NOT_OURS);
  if (!(world_.service(backend->service).flags & bpf::SERVICE_READY))
    return bit(bpf::VERDICT_NOT_OURS);
  if (ttl_of(in, view) <= 1) return expired;
  std::uint64_t set = bit(bpf::VERDICT_NO_CONNECTION) | bit(bpf::VERDICT_LATE_BACKEND) |
                      bit(bpf::VERDICT_RETURNED) | bit(bpf::VERDICT_KERNEL_ROUTED);
  if (backend->state == bpf::BACKEND_REMOVED) set |= bit(bpf::VERDICT_GONE_RESET);
  if ((view.tcp_flags & 0x04) && (world_.service(backend->service).flags & bpf::SERVICE_MASK))
    set |= bit(bpf::VERDICT_REFUSAL_MASKED);
  return set;
}

std::string Oracle::judge_drop(Bytes, const View& view, const Left& left) const {
  if (left.verdict == bpf::VERDICT_DROPPED) return "";
  const bool late = left.verdict == bpf::VERDICT_LATE_BACKEND ||
                    left.verdict == bpf::VERDICT_GONE_RESET;
  const bool answerable = view.tcp() && !(view.tcp_flags & 0x04) && view.piece == Piece::kWhole;
  return late && !answerable ? "" : "dropped, though its verdict does not say so";
}

std::string Oracle::judge(Bytes in, const Left& left) {
  const View view = view_of(in);
  if (left.action < XDP_DROP || left.action > XDP_REDIRECT)
    return "action " + std::to_string(left.action);
  if (left.verdict >= kFirstNote) return "no verdict";
  const std::uint64_t verdict = 1ULL << left.verdict;
  if (!(allowed(in, view) & verdict))
    return std::string("such a packet cannot be ") + kNames[left.verdict];
  if (left.action == XDP_DROP) return judge_drop(in, view, left);
  if (left.verdict == bpf::VERDICT_DROPPED) return "not dropped";
  std::string problem;
  if (verdict & kSent) {
    problem = judge_sent(in, view, left);
  } else if (verdict & kReplies) {
    problem = judge_reset(in, view, left);
  } else if (left.verdict == bpf::VERDICT_TOO_BIG) {
    problem = judge_too_big(in, view, left);
  } else if (left.verdict == bpf::VERDICT_PING) {
    problem = judge_ping(in, view, left);
  } else if (left.verdict == bpf::VERDICT_ICMP_FORWARDED) {
    problem = judge_error(in, view, left);
  } else if (left.verdict == bpf::VERDICT_REFUSAL_MASKED) {
    problem = judge_masked(in, view, left);
  } else if (left.has_note(bpf::VERDICT_MSS_CLAMPED)) {
    problem = judge_clamped(in, view, left);
  } else {
    problem = judge_untouched(in, view, left);
  }
  if (problem.empty()) {
    remember_syn(in, view);
    return "";
  }
  return std::string(kNames[left.verdict]) + ": " + problem;
}

void Oracle::forget() { syns_.clear(); }

std::string Oracle::judge_untouched(Bytes in, const View&, const Left& left) const {
  if (left.action != XDP_PASS) return "sent";
  return compare(in, left.packet);
}

std::string Oracle::judge_clamped(Bytes in, const View& view, const Left& left) const {
  const Service* service = world_.service_at(view.from, view.from_port, view.protocol);
  if (service == nullptr || !service->dsr() || !view.transport || !view.tcp())
    return "its MSS was none of ours";
  Frame wanted(in.begin(), in.end());
  std::size_t at = view.l4 + 20;
  while (at + 4 <= view.payload && in[at] != 2) at += in[at] == 1 ? 1U : in[at + 1];
  if (at + 4 > view.payload) return "it has no MSS";
  const std::uint16_t lowered = load16(left.packet, at + 2);
  const bool by_a_backend = std::ranges::any_of(service->backends, [&](std::uint32_t id) {
    const Backend& backend = world_.backend(id);
    const int headers = (is_mapped(backend.at.address) ? 20 : 40) + 20 + (view.v6 ? 40 : 20);
    return lowered == backend.mtu - headers;
  });
  if (!by_a_backend || lowered >= load16(in, at + 2)) return "MSS " + std::to_string(lowered);
  store16(wanted, at + 2, lowered);
  carry_transport_checksum(wanted, in, left.packet, view);
  if (left.action != XDP_PASS) return "sent";
  return compare(wanted, left.packet);
}

}  // namespace petrel::fuzz
