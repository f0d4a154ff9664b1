/* SPDX-License-Identifier: MIT */
/* The hashes that decide a flow's slot: the same in the balancer, the agent and `petrel where`.
 *
 * Every balancer that has the same backends must send a flow to the same slot, so nothing here
 * depends on the host. Word mixing as in MurmurHash3's 64-bit finaliser (A. Appleby, public domain).
 */
#ifndef PETREL_BPF_HASH_H
#define PETREL_BPF_HASH_H

#include "bpf/types.h"

#ifndef PETREL_INLINE
#define PETREL_INLINE static inline __attribute__((always_inline))
#endif

#ifdef __cplusplus
namespace petrel::bpf {
#endif

PETREL_INLINE __u64 hash_mix(__u64 hash) {
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdULL;
  hash ^= hash >> 33;
  return hash;
}

PETREL_INLINE __u64 hash_address_from(__u64 seed, const struct address *address) {
  __u64 upper = (__u64)address->words_be[0] << 32 | address->words_be[1];
  __u64 lower = (__u64)address->words_be[2] << 32 | address->words_be[3];

  return hash_mix(hash_mix(seed ^ upper) + 0x9e3779b97f4a7c15ULL + lower);
}

/* The bit of an address in struct address_filter: 0 to FILTER_BITS - 1. Two multiplications. */
PETREL_INLINE __u32 hash_address(const struct address *address) {
  __u64 upper = (__u64)address->words_be[0] << 32 | address->words_be[1];
  __u64 lower = (__u64)address->words_be[2] << 32 | address->words_be[3];
  __u64 hash = (upper ^ (lower * 0x9e3779b97f4a7c15ULL)) * 0xff51afd7ed558ccdULL;

  return (__u32)(hash >> 48);
}

/* The slot of an endpoint in `endpoints`. */
PETREL_INLINE __u32 hash_endpoint(const struct address *address, __be16 port_be, __u8 protocol) {
  __u32 port = (__u32)port_be * 0x9e3779b1U;

  return (hash_address(address) ^ (port >> 16) ^ protocol) & (ENDPOINT_SLOTS - 1);
}

/* A client of a service, for `pending` and client_filter. */
PETREL_INLINE __u32 hash_client(const struct address *client, __u32 service_id) {
  return (__u32)hash_address_from(service_id, client);
}

/* What client_filter holds of a time: never 0; seven bits go round in 2 minutes. */
PETREL_INLINE __u8 client_epoch(__u64 now_ns) {
  return (__u8)((now_ns >> CLIENT_EPOCH_SHIFT) | 0x80);
}

/* What places a flow: its upper 32 bits choose the slot, multiplied by the ring's length. With
 * `by_client` neither port counts. */
PETREL_INLINE __u64 hash_flow(const struct connection_key *key, __u32 seed, bool by_client) {
  __u64 hash = hash_address_from(seed, &key->client);

  if (!by_client) hash ^= (__u64)key->client_port_be << 16 | key->service_port_be;
  return hash_mix(hash + 0x9e3779b97f4a7c15ULL);
}

PETREL_INLINE __u32 hash_slot(__u64 hash, __u32 slots) {
  return (__u32)(((hash >> 32) * slots) >> 32);
}

/* The n-th other slot to ask, from 1. */
PETREL_INLINE __u64 hash_again(__u64 hash, __u32 n) {
  return hash_mix(hash + n * 0x9e3779b97f4a7c15ULL);
}

#ifdef __cplusplus
}  // namespace petrel::bpf
#endif

#endif /* PETREL_BPF_HASH_H */
