/* SPDX-License-Identifier: MIT */
/* Which service or backend an address and port are: the filter first, then the tables. */
#ifndef PETREL_BPF_SERVICE_BPF_H
#define PETREL_BPF_SERVICE_BPF_H

#include "bpf/hash.h"
#include "bpf/maps.bpf.h"

static __always_inline bool may_be_vip(const struct address_filter *filter, __u32 bit) {
  return filter->vips[(bit >> 6) & (FILTER_WORDS - 1)] >> (bit & 63) & 1;
}

static __always_inline bool may_be_backend(const struct address_filter *filter, __u32 bit) {
  return filter->backends[(bit >> 6) & (FILTER_WORDS - 1)] >> (bit & 63) & 1;
}

/* The service of several ports that this one is in. */
static __noinline struct service *find_range(const struct service_key *key) {
  struct vip *vip = bpf_map_lookup_elem(&vips, &key->vip);
  struct service_key first = *key;
  __u16 port = bpf_ntohs(key->port_be);

  if (!vip) return NULL;
  for (__u32 i = 0; i < VIP_RANGES; i++) {
    if (i >= vip->ranges) break;
    const struct port_range *range = &vip->range[i];
    if (range->protocol != key->protocol || port < range->first || port > range->last) continue;
    first.port_be = bpf_htons(range->first);
    return bpf_map_lookup_elem(&services, &first);
  }
  return NULL;
}

/* NULL: it is not there, which does not say that it is not ours. */
static __always_inline struct endpoint *find_endpoint(const struct address *address,
                                                      __be16 port_be, __u8 protocol) {
  __u32 slot = hash_endpoint(address, port_be, protocol);
  struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &slot);

  if (!endpoint || endpoint->port_be != port_be || endpoint->protocol != protocol) return NULL;
  const __u32 *a = endpoint->address.words_be, *b = address->words_be;
  return a[3] == b[3] && a[2] == b[2] && a[1] == b[1] && a[0] == b[0] ? endpoint : NULL;
}

static __noinline struct service *look_up_service(const struct address *vip, __be16 port_be,
                                                  __u8 protocol) {
  struct service_key key = {.vip = *vip, .port_be = port_be, .protocol = protocol};
  struct service *service = bpf_map_lookup_elem(&services, &key);

  return service ? service : find_range(&key);
}

static __always_inline struct service *find_service(const struct address *vip, __be16 port_be,
                                                    __u8 protocol) {
  struct endpoint *endpoint = find_endpoint(vip, port_be, protocol);

  if (endpoint && endpoint->kind == ENDPOINT_SERVICE) return &endpoint->service;
  return look_up_service(vip, port_be, protocol);
}

static __noinline __u32 look_up_backend(const struct address *address, __be16 port_be,
                                          __u8 protocol) {
  struct backend_key key = {.address = *address, .port_be = port_be, .protocol = protocol};
  __u32 *id = bpf_map_lookup_elem(&backend_ids, &key);

  if (id) return *id;
  key.port_be = 0;
  id = bpf_map_lookup_elem(&backend_ids, &key);
  return id ? *id : 0;
}

/* The backend whose reply comes from here; 0: nobody's. */
static __always_inline __u32 find_backend(const struct address *address, __be16 port_be,
                                          __u8 protocol) {
  struct endpoint *endpoint = find_endpoint(address, port_be, protocol);

  if (endpoint && endpoint->kind == ENDPOINT_BACKEND) return endpoint->backend_id;
  return look_up_backend(address, port_be, protocol);
}

#endif /* PETREL_BPF_SERVICE_BPF_H */
