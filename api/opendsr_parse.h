/* SPDX-License-Identifier: Apache-2.0
 * opendsr_parse.h: the body of an OpenDSR request to the daemon's erasure request. Identities are
 * hashed as they are read; no error repeats anything that stands in the body, not even the name of
 * an unknown field. */
#ifndef UNLEARND_API_OPENDSR_PARSE_H
#define UNLEARND_API_OPENDSR_PARSE_H

#include "daemon/service.h"
#include "lib/util/json.h"

struct opendsr_reader {
        const char *domain;               /* ours: whose extension is read */
        const char *identities;           /* types that are accepted, separated by commas */
        enum erase_regulation regulation; /* of a request that names none */
        int64_t now_ms;
        void (*pseudonym)(void *arg, const void *id, size_t len, uint8_t out[PSEUDONYM_BYTES]);
        void (*of_digest)(void *arg, const uint8_t sha256[SHA256_BYTES],
                          uint8_t out[PSEUDONYM_BYTES]);
        int (*url_check)(void *arg, const char *url, struct errinfo *e);
        void *arg;
};
/* Lower-case UUID, version 4 (RFC 4122). */
bool opendsr_id_valid(const char *text);
/* Is this one of the types? */
bool opendsr_identity_accepted(const char *identities, const char *type);
/* Fills all but the actor and the body's hash; erase_request_clear in every case. UL_INVALID. */
int opendsr_parse(const struct json *body, const struct opendsr_reader *r,
                  struct erase_request *out, struct errinfo *e);
/* The specification's identity types, NULL-terminated. */
extern const char *const opendsr_identity_types[];

#endif
