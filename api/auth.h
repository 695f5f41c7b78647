/* SPDX-License-Identifier: Apache-2.0
 * auth.h: who may do what. Tokens are random text of at least 128 bits (unlearnctl token new); the
 * file holds only their SHA-256, so that reading it gives nobody access. It must not know HTTP
 * beyond the text of one Authorization header.
 *
 * A line of the file: NAME SCOPE[,SCOPE...] SHA256HEX [rate=REQUESTS/SECONDS]; # starts a comment.
 * NAME: [A-Za-z0-9][A-Za-z0-9._-]{0,62}, what the audit log shows as the actor. */
#ifndef UNLEARND_API_AUTH_H
#define UNLEARND_API_AUTH_H

#include "daemon/service.h"
#include "lib/util/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct auth;
enum { TOKENS_FILE_MAX = 1024 * 1024, RATE_MAX = 1000000000, RATE_WINDOW_MAX_S = 86400 };

/* tokens_file "" (or NULL): everything is open, the actor is "anonymous". UL_NOT_FOUND, UL_INVALID
 * with the line's number: an error leaves no half-read tokens behind. */
int auth_open(const char *tokens_file, struct auth **out, struct errinfo *e);
/* The old tokens, and what their quotas have counted, stay where the file does not parse. */
int auth_reload(struct auth *a, struct errinfo *e);
void auth_close(struct auth **a);
bool auth_is_open(const struct auth *a);

enum auth_verdict { AUTH_OK, AUTH_MISSING, AUTH_UNKNOWN, AUTH_OVER_QUOTA };
struct auth_result {
        char actor[ACTOR_MAX];
        uint32_t scopes;
        uint32_t quota; /* requests a window; 0: none */
        uint32_t window_s;
        uint32_t remaining;
        uint32_t reset_s; /* until the window starts anew, at least 1 */
};
/* authorization: the header's value, or NULL. Counts one request against the token's quota. */
enum auth_verdict auth_check(struct auth *a, const char *authorization, struct auth_result *out);

/* "ingest", ...; 0 for an unknown name. */
uint32_t scope_parse(const char *name, size_t len);
/* "ingest or admin" for people. */
void scopes_describe(uint32_t scopes, char *out, size_t size);

#endif
