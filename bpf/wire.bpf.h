/* SPDX-License-Identifier: MIT */
/* The wire sensor: what the packets of a NAT service tell of each connection, in both directions.
 *
 * A request is a turn: client bytes, then backend bytes. The clock is read only where something
 * begins or ends, so that the packets between cost a look at two sequence numbers. A FIN from the
 * client with its request unanswered counts as abandoned, although a half-closed client may still
 * read: HTTP clients do not half-close.
 */
#ifndef PETREL_BPF_WIRE_BPF_H
#define PETREL_BPF_WIRE_BPF_H

#include "bpf/half_open.bpf.h"
#include "bpf/packet.bpf.h"

#define HTTP_STATUS_LINE_BYTES 12 /* "HTTP/1.1 200" */

/* The status of an HTTP/1.x answer in its first bytes, or 0. */
static __always_inline __u16 http_status(const struct packet *packet) {
  const __u8 *text = (void *)packet->tcp + packet->tcp->doff * 4;

  if ((void *)(text + HTTP_STATUS_LINE_BYTES) > packet->data_end) return 0;
  if (packet->payload_bytes < HTTP_STATUS_LINE_BYTES) return 0;
  if (text[0] != 'H' || text[1] != 'T' || text[2] != 'T' || text[3] != 'P' || text[4] != '/' ||
      text[5] != '1' || text[6] != '.' || text[8] != ' ')
    return 0;
  __u8 hundreds = text[9] - '0', tens = text[10] - '0', units = text[11] - '0';
  if (hundreds < 1 || hundreds > 5 || tens > 9 || units > 9) return 0;
  return hundreds * 100 + tens * 10 + units;
}

static __always_inline __u8 failure_of_status(__u16 status) {
  if (status == 429) return FAILURE_OVERLOAD;
  return status >= 500 ? FAILURE_SERVER_ERROR : FAILURE_NONE;
}

static __always_inline void count_status(struct backend_stats *stats, __u16 status) {
  if (status >= 200 && status < 300) stats->status_2xx++;
  if (status >= 300 && status < 400) stats->status_3xx++;
  if (status >= 400 && status < 500 && status != 429) stats->status_4xx++;
}

/* True when the segment brings payload not seen before; else it is counted as repeated. */
static __always_inline bool new_payload(const struct packet *packet, __u32 *end_seq,
                                        __u16 *repeats, __u64 *stats_repeats) {
  __u32 end = bpf_ntohl(packet->tcp->seq) + packet->payload_bytes;

  if ((__s32)(end - *end_seq) > 0) {
    *end_seq = end;
    return true;
  }
  SATURATING_INCREMENT(*repeats);
  (*stats_repeats)++;
  return false;
}

static __noinline int begin_request(const struct connection_key *key,
                                    struct connection *connection, struct backend_stats *stats) {
  __u64 now_ns = bpf_ktime_get_ns();

  /* The first request was labelled at its SYN; one on a kept connection is labelled here. */
  if (connection->requests > 0) {
    struct attempt attempt;
    label_request(key, now_ns, &attempt);
    connection->attempt = attempt.number;
    connection->previous_failure = attempt.previous_failure;
    connection->previous_backend_id = attempt.previous_backend_id;
  }
  connection->requests++;
  connection->request_ns = now_ns;
  connection->response_ns = 0;
  connection->failure = FAILURE_NONE;
  stats->requests++;
  struct wait wait = wait_of(connection, key->service_id);
  begin_wait(&wait, stats, now_ns);
  return 0;
}

static __noinline int end_request(const struct connection_key *key, struct connection *connection,
                                  struct backend_stats *stats, __u16 status) {
  __u64 now_ns = bpf_ktime_get_ns();
  __u64 waited_ns = now_ns - connection->request_ns;
  __u8 failure = failure_of_status(status);

  connection->response_ns = now_ns;
  connection->status = status;
  struct wait wait = wait_of(connection, key->service_id);
  if (!end_wait(&wait, stats, connection->request_ns, now_ns)) return 0;
  stats->answers++;
  count_status(stats, status);
  add_to_histogram(stats->response_histogram, waited_ns);
  if (failure != FAILURE_NONE) {
    struct failed failed = {.syn_ns = connection->syn_ns,
                            .backend_id = connection->backend_id,
                            .request = connection->requests,
                            .attempt = connection->attempt,
                            .failure = failure};
    connection->failure = failure;
    count_failure(stats, key->service_id, failure);
    record_failure(key, &failed, now_ns);
  }
  struct event *event = begin_connection_event(EVENT_ANSWER, key, connection, now_ns);
  if (!event) return 0;
  event->waited_ns = waited_ns;
  event->failure = failure;
  submit_event(event);
  return 0;
}

/* A packet from the client that is no SYN. `one_way`: the answers do not pass here (dsr), so nothing
 * waits for them. */
static __always_inline void sense_client_segment(const struct packet *packet,
                                                 const struct connection_key *key,
                                                 struct connection *connection, bool one_way) {
  struct backend_stats *stats = stats_of_backend(connection->backend_id);

  if (!stats) return;
  stats->packets_in++;
  if (!packet->is_tcp) {
    stats->bytes_in += packet->payload_bytes;
    connection->bytes_in += packet->payload_bytes;
    return;
  }
  if (packet->payload_bytes) {
    stats->bytes_in += packet->payload_bytes;
    connection->bytes_in += packet->payload_bytes;
    if (new_payload(packet, &connection->client_end_seq, &connection->client_repeats,
                    &stats->client_repeats) &&
        connection->state == CONNECTION_ESTABLISHED &&
        !(connection->flags & CONNECTION_WAITING) && !one_way)
      begin_request(key, connection, stats);
  }
  if (!packet->tcp->fin && !packet->tcp->rst) return;
  if (packet->tcp->rst) stats->client_resets++;
  if (connection->state == CONNECTION_CLOSED) return;
  bool unanswered = connection->flags & CONNECTION_WAITING;
  if (packet->tcp->fin) __sync_fetch_and_or(&connection->flags, CONNECTION_CLIENT_FIN);
  end_connection(key, connection, packet->tcp->rst ? CLOSED_BY_CLIENT_RST : CLOSED_BY_CLIENT_FIN,
                 unanswered ? FAILURE_ABANDONED : FAILURE_NONE, bpf_ktime_get_ns());
}

/* How a backend's FIN or RST looks to the client whose request it may have left unanswered. */
static __always_inline __u8 failure_of_close(const struct connection *connection, bool reset) {
  if (connection->flags & CONNECTION_WAITING) return reset ? FAILURE_RESET : FAILURE_EMPTY;
  /* A connection reset before its request came through has failed its client all the same. */
  return reset && connection->requests == 0 ? FAILURE_RESET : FAILURE_NONE;
}

/* A segment from the backend that its connection belongs to. */
static __always_inline void sense_backend_segment(const struct packet *packet,
                                                  const struct connection_key *key,
                                                  struct connection *connection) {
  struct backend_stats *stats = stats_of_backend(connection->backend_id);

  if (!stats) return;
  stats->packets_out++;
  if (!packet->is_tcp) {
    stats->bytes_out += packet->payload_bytes;
    connection->bytes_out += packet->payload_bytes;
    return;
  }
  if (packet->tcp->syn) return; /* the SYN-ACK again: its first was seen in half_open */
  if (packet->payload_bytes) {
    stats->bytes_out += packet->payload_bytes;
    connection->bytes_out += packet->payload_bytes;
    if (new_payload(packet, &connection->backend_end_seq, &connection->backend_repeats,
                    &stats->backend_repeats) &&
        (connection->flags & CONNECTION_WAITING)) {
      __u16 status = http_status(packet);
      /* 1xx is no answer yet, but 101 is the last one: another protocol follows. */
      if (status == 0 || status == 101 || status >= 200)
        end_request(key, connection, stats, status);
    }
  }
  if (!packet->tcp->fin && !packet->tcp->rst) return;
  if (connection->state == CONNECTION_CLOSED) return;
  if (packet->tcp->fin) __sync_fetch_and_or(&connection->flags, CONNECTION_BACKEND_FIN);
  end_connection(key, connection, packet->tcp->rst ? CLOSED_BY_BACKEND_RST : CLOSED_BY_BACKEND_FIN,
                 failure_of_close(connection, packet->tcp->rst), bpf_ktime_get_ns());
}

#endif /* PETREL_BPF_WIRE_BPF_H */
