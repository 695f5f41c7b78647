/* SPDX-License-Identifier: Apache-2.0
 * witness_record.c: see witness.h. Who the witnesses are, what is kept of them, and how it is
 * shown. It knows no socket. */
#include "daemon/witness.h"

#include "daemon/http_client.h"
#include "lib/util/crash_point.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)WITNESS_NAME_MAX == (int)WITNESS_ROW_NAME_MAX, "a name fits");
_Static_assert((int)NOTE_KEY_ID_BYTES == (int)WITNESS_KEY_ID_BYTES, "a key id fits");
_Static_assert((int)WITNESSES_MAX == (int)METRIC_WITNESSES, "each has its gauges");

const char *witness_outcome_name(uint8_t outcome)
{
        static const char *const names[WITNESS_OUTCOMES] = {
                [WITNESS_COSIGNED] = "cosigned",         [WITNESS_STATUS] = "status",
                [WITNESS_UNKNOWN_LOG] = "unknown_log",   [WITNESS_UNKNOWN_KEY] = "unknown_key",
                [WITNESS_INCONSISTENT] = "inconsistent", [WITNESS_AHEAD] = "ahead",
                [WITNESS_MALFORMED] = "malformed",       [WITNESS_BAD_SIGNATURE] = "bad_signature",
                [WITNESS_BAD_TIME] = "bad_time",         [WITNESS_REFUSED] = "refused",
                [WITNESS_UNREACHABLE] = "unreachable",   [WITNESS_TLS] = "tls",
                [WITNESS_TIMEOUT] = "timeout",           [WITNESS_BROKEN] = "broken",
        };
        return outcome < WITNESS_OUTCOMES ? names[outcome] : "unknown";
}

/* --- start --- */

static int read_witness(struct service *s, uint32_t i, const struct note_key *log,
                        struct errinfo *e)
{
        const struct witness_config *w = &s->config.witnesses[i];
        struct cosigner *key = &s->cosigners[i];
        struct errinfo why = {0};
        int err = http_url_check(w->url, s->config.allow_networks[0] != '\0', &why);
        if (err != 0)
                return ul_fail(e, err, "the url of [witness %s] %.180s", w->name, why.detail);
        if (strchr(w->url, '?') != NULL)
                return ul_fail(e, UL_INVALID, "the url of [witness %s] must have no query",
                               w->name);
        if (cosigner_parse(w->key, strlen(w->key), key, &why) != 0)
                return ul_fail(e, UL_INVALID, "the key of [witness %s]: %.180s", w->name,
                               why.detail);
        if (memcmp(key->public_key, log->public_key, SIGN_PUBLIC_BYTES) == 0)
                return ul_fail(e, UL_INVALID,
                               "the key of [witness %s] is the log's own: a witness is another",
                               w->name);
        for (uint32_t k = 0; k < i; k++)
                if (memcmp(key->public_key, s->cosigners[k].public_key, SIGN_PUBLIC_BYTES) == 0)
                        return ul_fail(e, UL_INVALID,
                                       "[witness %s] and [witness %s] have the same key",
                                       s->config.witnesses[k].name, w->name);
        return 0;
}

int witness_start(struct service *s, struct errinfo *e)
{
        struct note_key log;
        const char *vkey = audit_vkey(s->log);
        int err = note_vkey_parse(vkey, strlen(vkey), &log, e);
        if (err != 0)
                return err;
        s->cosigners = calloc(WITNESSES_MAX, sizeof *s->cosigners);
        if (s->cosigners == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for witnesses");
        for (uint32_t i = 0; i < s->config.witness_count && err == 0; i++)
                err = read_witness(s, i, &log, e);
        return err;
}

void witness_end(struct service *s)
{
        free(s->cosigners);
        s->cosigners = NULL;
}

/* --- rows --- */

int witness_known(struct service *s, struct txn *t, uint32_t i, struct witness_row *row,
                  struct buf *note)
{
        const struct cosigner *key = &s->cosigners[i];
        int err = t_witness_get(t, s->config.witnesses[i].name, row, note);
        bool same = err == 0 && memcmp(row->key_id, key->id, sizeof key->id) == 0 &&
                    memcmp(row->public_key, key->public_key, sizeof key->public_key) == 0;
        if (err != 0 && err != UL_NOT_FOUND)
                return err;
        if (same)
                return 0;
        memset(row, 0, sizeof *row);
        memcpy(row->key_id, key->id, sizeof key->id);
        memcpy(row->public_key, key->public_key, sizeof key->public_key);
        if (note != NULL)
                note->len = 0;
        return 0;
}

/* The rows while a round is recorded. */
struct book {
        struct witness_row row[WITNESSES_MAX];
        struct buf note[WITNESSES_MAX];
};

static void enter(struct witness_result *x, struct witness_row *row, uint64_t size, int64_t now)
{
        bool good = x->outcome == WITNESS_COSIGNED;
        x->news = good ? row->failures > 0 || row->size == 0
                       : row->failures == 0 || row->outcome != (uint8_t)x->outcome;
        row->outcome = (uint8_t)x->outcome;
        row->status = x->status;
        row->attempt_ms = now;
        row->failures = good ? 0 : row->failures + 1;
        x->failures = row->failures;
        if (!good)
                return;
        row->cosigned_ms = now;
        row->size = size;
        row->time_s = x->cosignature.time;
        memcpy(row->signature, x->cosignature.signature, sizeof row->signature);
}

/* Whether the witness cosigned what the round offered, in it or earlier. */
static bool signed_by(const struct witness_round *r, const struct book *b, uint32_t i)
{
        const struct witness_result *x = &r->result[i];
        if (x->offered && x->outcome == WITNESS_COSIGNED)
                return true;
        return b->row[i].size == r->size && b->note[i].len > r->text_len &&
               memcmp(b->note[i].data, r->note.data, r->text_len) == 0 &&
               b->note[i].data[r->text_len] == '\n';
}

static int put_rows(struct service *s, struct txn *t, const struct witness_round *r,
                    const struct book *b)
{
        struct buf all = {0};
        int err = 0;
        buf_append(&all, r->note.data, r->note.len);
        for (uint32_t i = 0; i < s->config.witness_count; i++) {
                struct cosignature c = {.time = b->row[i].time_s};
                memcpy(c.signature, b->row[i].signature, sizeof c.signature);
                if (signed_by(r, b, i))
                        cosignature_write(&s->cosigners[i], &c, &all);
        }
        if (all.failed)
                err = txn_fail(t, UL_NOMEM);
        for (uint32_t i = 0; i < s->config.witness_count && err == 0; i++) {
                bool has = signed_by(r, b, i);
                const struct buf *note = has ? &all : &b->note[i];
                if (has || r->result[i].offered)
                        err = t_witness_put(t, s->config.witnesses[i].name, &b->row[i], note->data,
                                            note->len);
        }
        buf_free(&all, false);
        return err;
}

int witness_record(struct service *s, struct txn *t, struct witness_round *r)
{
        struct book *b = calloc(1, sizeof *b);
        int64_t now = now_ms();
        int err = 0;
        if (b == NULL)
                return txn_fail(t, UL_NOMEM);
        for (uint32_t i = 0; i < s->config.witness_count && err == 0; i++) {
                err = witness_known(s, t, i, &b->row[i], &b->note[i]);
                if (err == 0 && r->result[i].offered)
                        enter(&r->result[i], &b->row[i], r->size, now);
        }
        if (err == 0)
                err = put_rows(s, t, r, b);
        CRASH_POINT("witness.recorded");
        for (uint32_t i = 0; i < WITNESSES_MAX; i++)
                buf_free(&b->note[i], false);
        free(b);
        return err;
}

/* --- looking --- */

void witness_gauges(struct service *s, struct txn *t, struct metric_gauges *g)
{
        for (uint32_t i = 0; i < s->config.witness_count; i++) {
                struct metric_witness *m = &g->witnesses[i];
                struct witness_row row;
                if (witness_known(s, t, i, &row, NULL) != 0)
                        return;
                m->name = s->config.witnesses[i].name;
                m->size = row.size;
                m->failures = row.failures;
                m->age_seconds =
                        row.cosigned_ms != 0 ? (double)(now_ms() - row.cosigned_ms) / 1000 : NAN;
        }
}

int service_witness_list(struct service *s, service_witness_fn fn, void *arg, struct errinfo *e)
{
        struct txn *t = NULL;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        for (uint32_t i = 0; i < s->config.witness_count && err == 0; i++) {
                char vkey[NOTE_VKEY_SIZE];
                struct buf note = {0};
                struct witness_row row;
                err = witness_known(s, t, i, &row, &note);
                const struct witness_view v = {
                        .name = s->config.witnesses[i].name,
                        .key = cosigner_format(&s->cosigners[i], vkey),
                        .size = row.size,
                        .cosignature_s = row.size != 0 ? (int64_t)row.time_s : 0,
                        .cosigned_ms = row.cosigned_ms,
                        .attempt_ms = row.attempt_ms,
                        .outcome = row.attempt_ms != 0 ? witness_outcome_name(row.outcome) : NULL,
                        .status = row.status,
                        .failures = row.failures,
                        .checkpoint = (const char *)note.data,
                        .checkpoint_len = note.len};
                if (err == 0)
                        err = fn(arg, &v);
                buf_free(&note, false);
        }
        txn_abort(&t);
        return err < 0 ? ul_fail(e, err, "the witnesses cannot be read") : 0;
}

int witness_newest(struct service *s, struct txn *t, struct buf *out, uint64_t *size)
{
        int err = 0;
        *size = 0;
        for (uint32_t i = 0; i < s->config.witness_count && err == 0; i++) {
                struct buf note = {0};
                struct witness_row row;
                err = witness_known(s, t, i, &row, &note);
                if (err == 0 && row.size > *size) {
                        *size = row.size;
                        out->len = 0;
                        buf_append(out, note.data, note.len);
                        err = out->failed ? UL_NOMEM : 0;
                }
                buf_free(&note, false);
        }
        return err == 0 && *size == 0 ? UL_NOT_FOUND : err;
}

int service_audit_cosigned(struct service *s, struct buf *out, struct errinfo *e)
{
        struct txn *t = NULL;
        uint64_t size;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = witness_newest(s, t, out, &size);
        txn_abort(&t);
        if (err == UL_NOT_FOUND)
                return ul_fail(e, err, "%s",
                               s->config.witness_count > 0
                                       ? "no witness has cosigned a checkpoint yet"
                                       : "there is no [witness NAME] in the configuration");
        return err == 0 ? 0 : ul_fail(e, err, "the cosigned checkpoint cannot be read");
}
