// SPDX-License-Identifier: MIT
#include "tap/verdicts.hpp"

#include <iterator>

namespace petrel::tap {
namespace {

struct Text {
  std::string_view name;
  std::string_view meaning;
};

constexpr Text kTexts[] = {
#define PETREL_VERDICT_TEXT(name, text, meaning) {text, meaning},
    PETREL_VERDICTS(PETREL_VERDICT_TEXT)
#undef PETREL_VERDICT_TEXT
};
static_assert(std::size(kTexts) == bpf::VERDICTS);
static_assert(bpf::FIRST_NOTE == bpf::VERDICT_MISS_SYN);
static_assert(bpf::VERDICTS - bpf::FIRST_NOTE <= 8 * sizeof(bpf::tap_header::notes));

constexpr std::string_view kActions[] = {"aborted", "drop", "pass", "tx", "redirect"};

}  // namespace

std::string_view verdict_name(std::uint32_t verdict) {
  return verdict < std::size(kTexts) ? kTexts[verdict].name : "unknown";
}

std::string_view verdict_meaning(std::uint32_t verdict) {
  return verdict < std::size(kTexts) ? kTexts[verdict].meaning : "not known to this petrel";
}

std::optional<std::uint32_t> verdict_by_name(std::string_view name) {
  for (std::uint32_t verdict = 0; verdict < std::size(kTexts); ++verdict) {
    if (kTexts[verdict].name == name) return verdict;
  }
  return {};
}

std::vector<std::string_view> verdict_names() {
  std::vector<std::string_view> names;
  for (const Text& text : kTexts) names.push_back(text.name);
  return names;
}

bool has_note(const bpf::tap_header& header, std::uint32_t note) {
  return note >= bpf::FIRST_NOTE && note < bpf::VERDICTS &&
         (header.notes >> (note - bpf::FIRST_NOTE) & 1) != 0;
}

std::vector<std::uint32_t> notes_of(const bpf::tap_header& header) {
  std::vector<std::uint32_t> notes;
  for (std::uint32_t note = bpf::FIRST_NOTE; note < bpf::VERDICTS; ++note) {
    if (has_note(header, note)) notes.push_back(note);
  }
  return notes;
}

std::string_view action_name(std::uint8_t xdp_action) {
  return xdp_action < std::size(kActions) ? kActions[xdp_action] : "unknown";
}

}  // namespace petrel::tap
