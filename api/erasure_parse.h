/* SPDX-License-Identifier: Apache-2.0
 * erasure_parse.h: the body of an erasure, from JSON to the daemon's request. Pure: raw ids become
 * pseudonyms through the function that is handed in and are kept nowhere; the caller wipes the
 * document (json_free) and the bytes that it was read from. */
#ifndef UNLEARND_API_ERASURE_PARSE_H
#define UNLEARND_API_ERASURE_PARSE_H

#include "daemon/service.h"
#include "lib/util/json.h"

struct erasure_reader {
        void (*pseudonym)(void *arg, const void *id, size_t len, uint8_t out[PSEUDONYM_BYTES]);
        /* whether deliveries may go there: 0, or UL_INVALID with the detail alone; NULL: anywhere
         */
        int (*callback)(void *arg, const char *url, struct errinfo *e);
        void *arg;  /* of both */
        bool batch; /* a line of a batch: "idempotency_key" is a member */
};

struct erasure_body {
        struct erase_request request; /* subjects and records sorted, each once; actor empty */
        char idempotency_key[IDEMPOTENCY_KEY_MAX + 1]; /* "": none */
};

/* UL_INVALID with the pointer of the first member that is refused; UL_NOMEM. On an error nothing is
 * owned by *out. */
int erasure_parse(const struct json *body, const struct erasure_reader *r, struct erasure_body *out,
                  struct errinfo *e);
void erasure_body_clear(struct erasure_body *b);

/* The caller's ticket: [A-Za-z0-9._:/#-]{1,64}. */
bool reference_valid(const char *text, size_t len);

#endif
