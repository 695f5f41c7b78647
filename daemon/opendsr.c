/* SPDX-License-Identifier: Apache-2.0
 * opendsr.c: erasures that controllers ask for by OpenDSR: what they call one, and the key that
 * answers are signed with. A request is found by its controller and the controller's id for it, so
 * that nobody blocks an id of somebody else's. Nothing of a request's body is kept but a keyed
 * hash. It knows nothing of the wire. */
#include "daemon/opendsr.h"
#include "daemon/state.h"
#include "daemon/views.h"

#include "lib/signing/rsa.h"
#include "lib/util/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)OPENDSR_SIGNATURE_SIZE >= (int)RSA_SIGNATURE_SIZE, "a signature fits");
_Static_assert((int)OPENDSR_ID_SIZE == OPENDSR_ID_TEXT + 1, "an id fits");
_Static_assert((int)ACTOR_MAX == OPENDSR_CONTROLLER_MAX + 1, "a controller fits");

enum { EXPIRY_WARNING_MS = 30 * 24 * 3600 };

int opendsr_start(struct service *s, struct errinfo *e)
{
        const struct config *c = &s->config;
        char until[RFC3339_SIZE];
        if (c->opendsr_domain[0] == '\0')
                return 0;
        int err = rsa_signer_open(c->opendsr_key_file, c->opendsr_certificate_file, now_ms(),
                                  &s->opendsr_signer, e);
        if (err != 0)
                return err;
        if (c->opendsr_base_url[0] != '\0')
                (void)snprintf(s->opendsr_base_url, sizeof s->opendsr_base_url, "%s",
                               c->opendsr_base_url);
        else
                (void)snprintf(s->opendsr_base_url, sizeof s->opendsr_base_url,
                               "https://%s/opendsr/v2", c->opendsr_domain);
        int64_t expires_ms = rsa_signer_expires_ms(s->opendsr_signer);
        if (expires_ms - now_ms() < (int64_t)EXPIRY_WARNING_MS * 1000)
                log_event(LOG_LEVEL_WARN, "opendsr_certificate_expires",
                          "at=%s advice=renew_it_and_restart", time_format(expires_ms, until));
        return 0;
}

void opendsr_stop(struct service *s)
{
        rsa_signer_close(&s->opendsr_signer);
}

void service_opendsr_info(struct service *s, struct opendsr_info *out)
{
        *out = (struct opendsr_info){.spoken = s->opendsr_signer != NULL};
        if (!out->spoken)
                return;
        out->hold = s->config.opendsr_hold;
        out->domain = s->config.opendsr_domain;
        out->base_url = s->opendsr_base_url;
        out->identities = s->config.opendsr_identities;
        out->regulation =
                strcmp(s->config.opendsr_regulation, "ccpa") == 0 ? ERASE_CCPA : ERASE_GDPR;
        out->certificate = rsa_signer_certificate(s->opendsr_signer, &out->certificate_len);
}

int service_opendsr_sign(struct service *s, const void *data, size_t len,
                         char out[OPENDSR_SIGNATURE_SIZE], struct errinfo *e)
{
        return rsa_sign(s->opendsr_signer, data, len, out, e);
}

void service_pseudonym_of_digest(struct service *s, const uint8_t sha256[SHA256_BYTES],
                                 uint8_t out[PSEUDONYM_BYTES])
{
        pseudonym_of_digest(s->pseudonym_key, sha256, out);
}

int service_opendsr_url_check(struct service *s, const char *url, struct errinfo *e)
{
        if (strlen(url) > OPENDSR_URL_MAX)
                return ul_fail(e, UL_INVALID, "has at most %d bytes", OPENDSR_URL_MAX);
        return service_callback_check(s, url, e);
}

const char *service_opendsr_status(const char *state)
{
        static const char *const names[][2] = {{"accepted", "pending"},
                                               {"forgotten", "in_progress"},
                                               {"completed", "completed"},
                                               {"refused", "cancelled"}};
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
                if (strcmp(names[i][0], state) == 0)
                        return names[i][1];
        return "in_progress";
}

/* --- by the controller's id --- */

static void hash_of(const struct service *s, const char *controller, const char *id,
                    uint8_t out[OPENDSR_HASH_BYTES])
{
        char text[ACTOR_MAX + OPENDSR_ID_SIZE + 16];
        int n = snprintf(text, sizeof text, "opendsr/%s/%s", controller, id);
        keyed_hash(s->hash_key, text, (size_t)n, out, OPENDSR_HASH_BYTES);
}

void opendsr_request_free(struct opendsr_request *r)
{
        if (r == NULL)
                return;
        free(r->urls);
        free(r);
}

int opendsr_check(struct service *s, struct txn *t, const struct erase_request *r,
                  struct idempotency_row *row, struct errinfo *e)
{
        uint8_t hash[OPENDSR_HASH_BYTES];
        struct opendsr_row there;
        char text[ULID_TEXT + 1];
        if (r->opendsr == NULL)
                return 0;
        hash_of(s, r->actor, r->opendsr->id, hash);
        int err = t_opendsr_get(t, hash, &there, NULL);
        if (err == UL_NOT_FOUND)
                return 0;
        if (err != 0)
                return ul_fail(e, err, "the requests of controllers cannot be read");
        if (!equal_ct(there.body, r->opendsr->body, sizeof there.body))
                return ul_fail_field(e, UL_MISMATCH, "/subject_request_id",
                                     "this id was used with another request; make a new one");
        *row = (struct idempotency_row){0};
        memcpy(row->resource, ulid_format(there.erasure, text), sizeof text);
        return UL_EXISTS;
}

int opendsr_keep(struct service *s, struct txn *t, const struct erase_request *r,
                 const uint8_t id[ULID_BYTES])
{
        uint8_t hash[OPENDSR_HASH_BYTES];
        struct opendsr_row row = {0};
        if (r->opendsr == NULL)
                return 0;
        row.url_count = r->opendsr->url_count;
        memcpy(row.erasure, id, ULID_BYTES);
        memcpy(row.body, r->opendsr->body, sizeof row.body);
        memcpy(row.id, r->opendsr->id, sizeof row.id);
        (void)snprintf(row.controller, sizeof row.controller, "%s", r->actor);
        hash_of(s, r->actor, r->opendsr->id, hash);
        return t_opendsr_put(t, hash, &row, (const char(*)[OPENDSR_URL_MAX + 1]) r->opendsr->urls);
}

static int find(struct service *s, struct txn *t, const char *controller, const char *id,
                uint8_t erasure[ULID_BYTES], struct errinfo *e)
{
        uint8_t hash[OPENDSR_HASH_BYTES];
        struct opendsr_row row;
        hash_of(s, controller, id, hash);
        int err = t_opendsr_get(t, hash, &row, NULL);
        if (err != 0)
                return ul_fail(e, err,
                               err == UL_NOT_FOUND ? "there is no request of this id"
                                                   : "the requests of controllers cannot be read");
        memcpy(erasure, row.erasure, ULID_BYTES);
        return 0;
}

int service_opendsr_get(struct service *s, const char *controller, const char *id,
                        struct erasure_view *out, struct errinfo *e)
{
        uint8_t erasure[ULID_BYTES];
        struct txn *t = NULL;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = find(s, t, controller, id, erasure, e);
        if (err == 0) {
                err = view_erasure(s, t, erasure, out);
                if (err != 0)
                        (void)ul_fail(e, err, "the erasure cannot be read");
        }
        txn_abort(&t);
        return err;
}

int service_opendsr_cancel(struct service *s, const char *controller, const char *id,
                           service_erase_done done, void *arg, struct errinfo *e)
{
        uint8_t erasure[ULID_BYTES];
        struct txn *t = NULL;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = find(s, t, controller, id, erasure, e);
        txn_abort(&t);
        return err != 0 ? err
                        : service_erasure_refuse(s, erasure, "withdrawn", controller, done, arg, e);
}
