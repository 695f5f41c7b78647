/* SPDX-License-Identifier: Apache-2.0
 * outgoing.h: what the daemon tells others: a delivery is an HTTP POST that was promised by a
 * commit, and is tried until it was answered, or for delivery_give_up_s.
 *
 *   enqueue, in the transaction of the change that it tells of
 *        |
 *     waiting --due--> attempt --2xx--> gone from the queue
 *        ^                |-----410--> its endpoint is disabled, what waits for it is dropped
 *        +--postponed-----+--too old-> given up: audit entry delivery.abandoned
 *
 * Sent at least once: a crash between the answer and its record sends it again, under the same id.
 * Deliveries of one endpoint may overtake each other. Each failure postpones its delivery by
 * outgoing_delay_ms(), never to before a Retry-After, and slows the endpoint down, so that one that
 * fails takes no turn from the others.
 *
 * outgoing_queue.c is what happens in transactions, outgoing.c what happens on the loop,
 * http_client.c the sending. What a delivery means, its kind knows (outgoing_kinds.c). */
#ifndef UNLEARND_DAEMON_OUTGOING_H
#define UNLEARND_DAEMON_OUTGOING_H

#include "daemon/http_client.h"
#include "daemon/state.h"

/* What a kind is asked about: a row of the queue, and where it goes. */
struct outgoing_item {
        uint8_t id[ULID_BYTES];
        struct delivery_row row;
        struct endpoint_row endpoint;
        const void *body;
        size_t body_len;
};
struct outgoing_answer {
        enum http_outcome outcome;
        uint32_t status; /* 0: none came */
        uint32_t retry_after_s;
        const void *body; /* at most HTTP_ANSWER_MAX */
        size_t body_len;
};
enum outgoing_verdict { OUTGOING_DELIVERED, OUTGOING_FAILED, OUTGOING_GONE };

/* A use of the queue: an entry of the table in outgoing_kinds.c, whose place there is stored. */
struct outgoing_kind {
        const char *name;
        /* Loop thread, before each attempt: appends header lines ("Name: value\n"), such as a
         * signature of this moment, to those that were given with the delivery. An error counts as
         * a failed attempt. */
        int (*sign)(struct service *s, const struct outgoing_item *it, struct buf *headers,
                    struct errinfo *e);
        /* Writer thread, in the transaction that records the answer, with the verdict that the
         * status alone would have; may change it. NULL: nothing to add. */
        int (*answered)(struct service *s, struct txn *t, const struct outgoing_item *it,
                        const struct outgoing_answer *a, enum outgoing_verdict *verdict);
};
enum outgoing_kind_number { OUTGOING_WEBHOOK = 1, OUTGOING_OPENDSR, OUTGOING_KINDS };
extern const struct outgoing_kind opendsr_kind;            /* opendsr_callback.c */
const struct outgoing_kind *outgoing_kind(uint8_t number); /* NULL: unknown to this version */

struct delivery {
        enum outgoing_kind_number kind;
        const char *name;       /* of an endpoint in the configuration; NULL: `url` is one */
        const char *url;        /* http_url_check() has passed it */
        const char *type;       /* a word for the log: "erasure.completed" */
        const uint8_t *erasure; /* that it tells of; NULL: none */
        const char *headers; /* lines "Name: value\n", at most DELIVERY_HEADERS_MAX; NULL: none */
        const void *body;    /* at most DELIVERY_BODY_MAX, without personal data */
        size_t body_len;
};
/* In a transaction: queues it, under `id` where the caller has made one of its own for it, else
 * (NULL) under a new one. Dropped, and counted, where the endpoint is disabled or DELIVERIES_MAX
 * wait: the change that it tells of is never refused for it. */
int outgoing_enqueue(struct service *s, struct txn *t, const struct delivery *d, const uint8_t *id);
/* How an endpoint is found: a name, else an address, belongs to one kind. */
void outgoing_endpoint_hash(enum outgoing_kind_number kind, const char *name, const char *url,
                            uint8_t hash[ENDPOINT_HASH_BYTES]);

struct scheduler;
/* A client for requests of ours, under the limits of [outgoing]. */
int outgoing_client(struct scheduler *k, struct http_client **out, struct errinfo *e);

/* The pause after the n-th failure in a row (1: the first): first_ms, four times as long each time,
 * at most 12 hours, with a quarter of jitter either way. */
int64_t outgoing_delay_ms(uint32_t first_ms, uint32_t failures, uint32_t random);

/* --- outgoing_queue.c, for outgoing.c: in a transaction --- */
int outgoing_load(struct txn *t, const uint8_t id[ULID_BYTES], struct outgoing_item *it,
                  struct buf *headers, struct buf *body);
/* Records how an attempt ended. A delivery that is not there any more is no error. */
int outgoing_record(struct service *s, struct txn *t, const struct outgoing_item *sent,
                    const struct outgoing_answer *a);
/* What waits for an endpoint that is disabled is dropped, and what is too old given up; a bounded
 * number at a time. *left: call again. */
int outgoing_sweep(struct service *s, struct txn *t, const uint8_t hash[ENDPOINT_HASH_BYTES],
                   bool *left);
/* A 2xx, also where it was cut off afterwards for saying too much. */
bool outgoing_delivered(enum http_outcome outcome, uint32_t status);
bool outgoing_too_old(const struct service *s, int64_t since_ms, int64_t now);

#endif
