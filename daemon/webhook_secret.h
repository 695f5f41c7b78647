/* SPDX-License-Identifier: Apache-2.0
 * webhook_secret.h: the secrets that webhooks are signed with (Standard Webhooks, v1): one file an
 * endpoint, keys/webhook-NAME.secret, and keys/webhook.secret for the callbacks of erasures:
 *
 *      whsec_BASE64                              the one that is given to the receiver
 *      whsec_BASE64 until 2026-01-31T09:00:00Z   an earlier one, which signs too until then
 *
 * Under systemd, credentials of the same names are taken instead. Text of a secret is never logged
 * and never part of an error. */
#ifndef UNLEARND_DAEMON_WEBHOOK_SECRET_H
#define UNLEARND_DAEMON_WEBHOOK_SECRET_H

#include "lib/util/bytes.h"
#include "lib/util/clock.h"
#include "lib/util/err.h"
#include "lib/util/file.h"

enum {
        SECRET_BYTES_MIN = 24, /* Standard Webhooks: 24 to 64 */
        SECRET_BYTES_MAX = 64,
        SECRETS_MAX = 4,      /* of one endpoint at a time */
        SECRET_TEXT_MAX = 96, /* "whsec_", base64, NUL */
        SECRET_NAME_MAX = 64, /* of the file */
        SECRET_FILE_MAX = 4096,
};
struct webhook_secret {
        uint8_t bytes[SECRET_BYTES_MAX];
        uint32_t len;
        int64_t until_ms; /* 0: without end */
};
struct webhook_secrets {
        char path[PATH_SIZE];
        bool from_credential;                   /* not ours to change */
        struct webhook_secret all[SECRETS_MAX]; /* [count], the newest first */
        uint32_t count;
};

/* The file's name for an endpoint; NULL: for callbacks. */
void webhook_secret_file(const char *endpoint, char out[SECRET_NAME_MAX]);
/* Reads them; a file that is absent is made durably with a new secret. UL_CORRUPT names the file.
 */
int webhook_secrets_open(const char *data_dir, const char *file, struct webhook_secrets *out,
                         struct errinfo *e);
/* A new secret, durable on return; the ones before it sign on for overlap_ms. Writes its text.
 * UL_CONFLICT for credentials. */
int webhook_secrets_rotate(struct webhook_secrets *s, int64_t overlap_ms, int64_t now,
                           char text[SECRET_TEXT_MAX], struct errinfo *e);
void webhook_secrets_wipe(struct webhook_secrets *s);
/* Appends "v1,BASE64 v1,BASE64...": a signature by each secret that stands at `now`. */
void webhook_sign(const struct webhook_secrets *s, int64_t now, const char *id, int64_t timestamp_s,
                  const void *body, size_t body_len, struct buf *out);

#endif
