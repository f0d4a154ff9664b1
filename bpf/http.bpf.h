/* SPDX-License-Identifier: MIT */
/* HTTP/1.x as far as a packet's first bytes tell: methods, statuses, and where the next one begins.
 *
 * What is read is text in a packet, from `at` to `end`; nothing of it is kept but a method, a status
 * and a keyed hash of 16 bits of the request's line, which tells a repeated request from another one.
 * All loops are bounded by HTTP_SCAN_BYTES.
 */
#ifndef PETREL_BPF_HTTP_BPF_H
#define PETREL_BPF_HTTP_BPF_H

#include "bpf/hash.h"

#define HTTP_STATUS_LINE_BYTES 12 /* "HTTP/1.1 200" */
#define HTTP_LINE_BYTES 128       /* of a request's line that are hashed */
#define HTTP_SCAN_BYTES 1472      /* of a packet that are looked through */

/* Text within a packet: `at` and `end` are packet pointers. */
struct text {
  const void *at;
  const void *end;
};

/* What the first bytes of a request tell. */
struct request_head {
  __u8 method;  /* enum http_method */
  __u8 more;    /* requests that follow in the same segment, at most QUEUED_REQUESTS */
  __u16 hash;   /* of its line, keyed; 0: no HTTP/1.x */
};

/* The final statuses of the answers that begin in one segment, in order. */
struct answers {
  __u16 status[QUEUED_REQUESTS + 1];
  __u16 count;
};

#define ASCII4(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)

static __always_inline bool is_upper(__u32 byte) { return byte - 'A' < 26; }

/* Of eight bytes of text, the first one lowest. */
static __always_inline __u8 method_of(__u64 text) {
  __u32 first = (__u32)text, second = (__u32)(text >> 32);

  switch (first) {
    case ASCII4('G', 'E', 'T', ' '): return METHOD_GET;
    case ASCII4('P', 'U', 'T', ' '): return METHOD_PUT;
    case ASCII4('H', 'E', 'A', 'D'): return (second & 0xff) == ' ' ? METHOD_HEAD : METHOD_NONE;
    case ASCII4('P', 'O', 'S', 'T'): return (second & 0xff) == ' ' ? METHOD_POST : METHOD_NONE;
    case ASCII4('P', 'A', 'T', 'C'): return (second & 0xffff) == ('H' | ' ' << 8) ? METHOD_PATCH : METHOD_NONE;
    case ASCII4('T', 'R', 'A', 'C'): return (second & 0xffff) == ('E' | ' ' << 8) ? METHOD_TRACE : METHOD_NONE;
    case ASCII4('D', 'E', 'L', 'E'):
      return (second & 0xffffff) == ('T' | 'E' << 8 | ' ' << 16) ? METHOD_DELETE : METHOD_NONE;
    case ASCII4('C', 'O', 'N', 'N'):
      return second == ASCII4('E', 'C', 'T', ' ') ? METHOD_CONNECT : METHOD_NONE;
    case ASCII4('O', 'P', 'T', 'I'):
      return second == ASCII4('O', 'N', 'S', ' ') ? METHOD_OPTIONS : METHOD_NONE;
    case ASCII4('P', 'R', 'I', ' '): return METHOD_NONE; /* HTTP/2 (RFC 9113, 3.4) */
  }
  /* WebDAV and the like; told from a body's text where only a request may begin. */
  if (is_upper(first & 0xff) && is_upper(first >> 8 & 0xff) && is_upper(first >> 16 & 0xff) &&
      (is_upper(first >> 24) || first >> 24 == ' ' || first >> 24 == '-'))
    return METHOD_OTHER;
  return METHOD_NONE;
}

/* What follows such a request's header at once can only be the next request. */
static __always_inline bool has_no_body(__u8 method) {
  return method == METHOD_GET || method == METHOD_HEAD || method == METHOD_DELETE ||
         method == METHOD_OPTIONS || method == METHOD_TRACE;
}

#define BYTES8(byte) ((byte) * 0x0101010101010101ULL)

/* The highest bit of each byte of `word` that is `byte`. The lowest mark is exact; what the borrow
 * sets wrongly is above it. */
static __always_inline __u64 mark_bytes(__u64 word, __u8 byte) {
  __u64 zeros = word ^ BYTES8(byte);

  return (zeros - BYTES8(0x01)) & ~zeros & BYTES8(0x80);
}

/* Where `word` stands in the text, at its first byte `first`, which is rare: up to five places, 12
 * bits each, one more than the offset, the first place highest. The last 16 bytes are not looked at.
 * Without branches where it compares: the verifier follows each of them to the end. */
static __noinline __u64 find_word(const struct text *text, __u32 wanted, __u8 first) {
  const void *at = text->at;
  __u64 places = 0;

  for (__u32 i = 0; i < HTTP_SCAN_BYTES; i += 8) {
    const __u64 *words = at + i;
    if ((const void *)(words + 2) > text->end) break;
    __u64 low = words[0], high = words[1];
    if (!mark_bytes(low, first)) continue;
#pragma unroll
    for (__u32 j = 0; j < 8; j++) {
      __u64 differs = (__u32)(j < 5 ? low >> 8 * j : low >> 8 * j | high << (64 - 8 * j)) ^ wanted;
      __u64 equal = (differs - 1) >> 63;
      barrier_var(equal);
      places = places << 12 * equal | ((i + j + 1) & -equal);
    }
  }
  return places;
}

/* Of a request's line, "GET /path HTTP/1.1": what a client that repeats a request sends again. */
static __noinline __u16 hash_request_line(const struct text *text, __u64 secret) {
  const void *at = text->at;
  __u64 hash = secret;

  for (__u32 i = 0; i < HTTP_LINE_BYTES; i += 8) {
    const __u64 *word = at + i;
    if ((const void *)(word + 1) > text->end) break;
    __u64 marks = mark_bytes(*word, '\r');
    __u64 kept = marks ? ((marks & -marks) - 1) >> 7 : ~0ULL; /* the bytes before the first mark */
    hash = hash_mix(hash ^ (*word & kept)) + 0x9e3779b97f4a7c15ULL;
    if (marks) break;
  }
  hash = hash_mix(hash) >> 48;
  return hash ? (__u16)hash : 1;
}

/* How many requests begin after the first one in this segment: after an empty line, where that one
 * has no body, nothing else can. */
static __noinline __u32 count_more_requests(const struct text *text) {
  __u64 places = find_word(text, ASCII4('\r', '\n', '\r', '\n'), '\r');
  __u32 more = 0;

#pragma unroll
  for (int shift = 0; shift <= 48; shift += 12) {
    __u32 offset = ((__u32)(places >> shift) & 0xfff) - 1; /* beyond the bound: there is no place */
    barrier_var(offset);
    if (offset >= HTTP_SCAN_BYTES) break;
    const __u8 *next = text->at + offset + 4;
    if ((const void *)(next + 1) > text->end) continue;
    __u64 is_letter = ((__u64)(__u8)(*next - 'A') - 26) >> 63;
    barrier_var(is_letter);
    more += (__u32)is_letter;
  }
  return more < QUEUED_REQUESTS ? more : QUEUED_REQUESTS;
}

static __always_inline void read_head(const struct text *text, __u64 secret,
                                      struct request_head *head) {
  const __u64 *first = text->at;

  head->method = METHOD_NONE;
  head->more = 0;
  head->hash = 0;
  if ((const void *)(first + 1) > text->end) return;
  head->method = method_of(*first);
  if (head->method == METHOD_NONE) return;
  head->hash = hash_request_line(text, secret);
  /* Read anew, lest the verifier follow what comes once for each method. */
  if (has_no_body(*(volatile __u8 *)&head->method)) head->more = count_more_requests(text);
}

/* The status of an HTTP/1.x answer in the text's first bytes, or 0. */
static __always_inline __u16 http_status(const void *at, const void *end) {
  const __u8 *text = at;

  if ((const void *)(text + HTTP_STATUS_LINE_BYTES) > end) return 0;
  if (*(const __u32 *)text != ASCII4('H', 'T', 'T', 'P') || text[4] != '/' || text[5] != '1' ||
      text[6] != '.' || text[8] != ' ')
    return 0;
  __u8 hundreds = text[9] - '0', tens = text[10] - '0', units = text[11] - '0';
  if (hundreds < 1 || hundreds > 5 || tens > 9 || units > 9) return 0;
  return hundreds * 100 + tens * 10 + units;
}

/* 1xx is no answer yet, but 101 is the last one: another protocol follows. */
static __always_inline bool is_final(__u16 status) { return status >= 200 || status == 101; }

/* Every answer that begins in this segment. A body that quotes a status line would be taken for one:
 * only connections that pipeline, or that were told to continue, are asked. */
static __always_inline void read_answers(const struct text *text, struct answers *out) {
  __u64 places = find_word(text, ASCII4('H', 'T', 'T', 'P'), 'H');

  out->count = 0;
#pragma unroll
  for (int shift = 48; shift >= 0; shift -= 12) {
    __u32 place = (__u32)(places >> shift) & 0xfff;
    __u32 offset = place - 1; /* beyond the bound where there is no place */
    barrier_var(offset);
    if (offset >= HTTP_SCAN_BYTES) continue;
    __u16 status = http_status(text->at + offset, text->end);
    __u32 count = out->count;
    if (!is_final(status) || count > QUEUED_REQUESTS) continue;
    out->status[count] = status;
    out->count = count + 1;
  }
}

#endif /* PETREL_BPF_HTTP_BPF_H */
