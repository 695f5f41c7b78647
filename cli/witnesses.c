/* SPDX-License-Identifier: Apache-2.0
 * witnesses.c: see witnesses.h. The daemon is asked for checkpoints and believed in nothing: a
 * cosignature counts when it verifies under a key that the caller gave. */
#include "cli/witnesses.h"

#include "lib/util/clock.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Of cosignature_timely, so that it fits. */
static int64_t time_ms_of(const struct cosignature *c)
{
        return (int64_t)c->time * 1000;
}

static bool same_public_key(const uint8_t a[SIGN_PUBLIC_BYTES], const uint8_t b[SIGN_PUBLIC_BYTES])
{
        return memcmp(a, b, SIGN_PUBLIC_BYTES) == 0;
}

int testimony_begin(const struct text_list *vkeys, struct testimony *out)
{
        *out = (struct testimony){.count = vkeys->count};
        if (vkeys->count == 0)
                return 0;
        out->witness = calloc(vkeys->count, sizeof *out->witness);
        out->cosignature = calloc(vkeys->count, sizeof *out->cosignature);
        if (out->witness == NULL || out->cosignature == NULL)
                return complain_memory();
        for (size_t i = 0; i < vkeys->count; i++) {
                struct errinfo e = {0};
                const char *vkey = vkeys->items[i];
                if (cosigner_parse(vkey, strlen(vkey), &out->witness[i], &e) != 0)
                        return complain_usage("--witness: %s", e.detail);
                for (size_t k = 0; k < i; k++)
                        if (same_public_key(out->witness[k].public_key, out->witness[i].public_key))
                                return complain_usage("--witness: %s and %s have the same key",
                                                      out->witness[k].name, out->witness[i].name);
        }
        return 0;
}

int testimony_not_by(const struct testimony *y, const struct note_key *log)
{
        for (size_t i = 0; i < y->count; i++)
                if (same_public_key(y->witness[i].public_key, log->public_key))
                        return complain_usage("--witness: %s has the log's own key",
                                              y->witness[i].name);
        return 0;
}

int testimony_recent(const struct testimony *y, uint64_t days)
{
        enum { DAY_S = 86400 };
        const int64_t now_s = now_ms() / 1000;
        for (size_t i = 0; i < y->count; i++) {
                char at[RFC3339_SIZE];
                const int64_t age_s = now_s - (int64_t)y->cosignature[i].time - COSIGNATURE_SKEW_S;
                if (age_s > 0 && (uint64_t)age_s / DAY_S >= days)
                        return complain("witness %s: it cosigned at %s, which is more than %" PRIu64
                                        " days ago: what came after it, it may never have seen. "
                                        "--witness-max-age DAYS takes older ones",
                                        y->witness[i].name,
                                        time_format(time_ms_of(&y->cosignature[i]), at), days);
        }
        return 0;
}

void testimony_clear(struct testimony *y)
{
        free(y->witness);
        free(y->cosignature);
        *y = (struct testimony){0};
}

/* 0: all of them cosigned this note. UL_NOT_FOUND: one did not; *who says which. */
static int examine(struct testimony *y, const char *note, size_t len, size_t *who,
                   struct errinfo *e)
{
        size_t text_len = 0;
        for (size_t i = 0; i < y->count; i++) {
                *who = i;
                int err = cosignature_find_in_note(note, len, &y->witness[i], &y->cosignature[i],
                                                   &text_len, e);
                if (err == 0)
                        err = cosignature_timely(&y->cosignature[i], 0, now_ms() / 1000, e);
                if (err != 0)
                        return err;
        }
        int err = checkpoint_parse(note, text_len, &y->head, e);
        if (err == 0 && y->head.size == 0)
                err = ul_fail(e, UL_INVALID, "it cosigned a log without entries");
        return err;
}

static int complain_of(const struct testimony *y, size_t who, const struct errinfo *e)
{
        return complain("witness %s: %s", y->witness[who].name, e->detail);
}

int testimony_take(struct testimony *y, const void *note, size_t len)
{
        struct errinfo e = {0};
        size_t who = 0;
        if (y->count == 0)
                return 0;
        return examine(y, note, len, &who, &e) == 0 ? 0 : complain_of(y, who, &e);
}

int testimony_take_proof(struct testimony *y, const struct buf *proof)
{
        const char *text = (const char *)proof->data;
        const char *end = memmem(text, proof->len, "\n\n", 2); /* of the hashes */
        if (end == NULL)
                return complain("the proof has no checkpoint");
        return testimony_take(y, end + 2, proof->len - (size_t)(end + 2 - text));
}

/* When the first of them cosigned, which is how much it is worth. */
static uint64_t oldest(const struct testimony *y)
{
        uint64_t time = UINT64_MAX;
        for (size_t i = 0; i < y->count; i++)
                if (y->cosignature[i].time < time)
                        time = y->cosignature[i].time;
        return time;
}

static bool is_newer(const struct testimony *a, const struct testimony *b)
{
        return a->head.size != b->head.size ? a->head.size > b->head.size : oldest(a) > oldest(b);
}

/* Keeps the newest of the daemon's checkpoints in *best. */
static int choose(struct testimony *y, const struct json *items, struct testimony *best,
                  bool *found)
{
        for (const struct json *item = json_first(items); item != NULL; item = json_next(item)) {
                struct errinfo e = {0};
                size_t who = 0;
                const char *note = json_string(json_get(item, "checkpoint"));
                if (note == NULL) /* it has cosigned nothing */
                        continue;
                int err = examine(y, note, strlen(note), &who, &e);
                if (err == UL_NOT_FOUND)
                        continue;
                if (err != 0)
                        return complain_of(y, who, &e);
                if (*found && !is_newer(y, best))
                        continue;
                *found = true;
                best->head = y->head;
                memcpy(best->cosignature, y->cosignature, y->count * sizeof *y->cosignature);
        }
        return 0;
}

static int choose_newest(struct testimony *y, const struct json *doc)
{
        const struct json *items = json_get(doc, "items");
        struct testimony best = {.count = y->count,
                                 .cosignature = calloc(y->count, sizeof *best.cosignature)};
        bool found = false;
        if (best.cosignature == NULL)
                return complain_memory();
        int status = items != NULL
                             ? choose(y, items, &best, &found)
                             : complain("the daemon's list of witnesses is not in the form of one");
        if (status == 0 && !found)
                status = y->count == 1
                                 ? complain("the daemon has no checkpoint that %s cosigned",
                                            y->witness[0].name)
                                 : complain("the daemon has no checkpoint that all %zu witnesses "
                                            "cosigned",
                                            y->count);
        if (status == 0) {
                y->head = best.head;
                memcpy(y->cosignature, best.cosignature, y->count * sizeof *y->cosignature);
        }
        free(best.cosignature);
        return status;
}

int testimony_fetch(struct ctl *c, struct testimony *y)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        if (y->count == 0)
                return 0;
        int status = api_get(c, "/v1/audit/witnesses", &a, &doc);
        if (status == 0)
                status = choose_newest(y, doc);
        json_free(&doc);
        http_answer_free(&a);
        return status;
}

void testimony_print(const struct testimony *y)
{
        char at[RFC3339_SIZE];
        for (size_t i = 0; i < y->count; i++)
                (void)printf("witness      %s cosigned the first %" PRIu64 " entries at %s\n",
                             y->witness[i].name, y->head.size,
                             time_format(time_ms_of(&y->cosignature[i]), at));
}

void testimony_write(const struct testimony *y, struct json_writer *w)
{
        jw_array(w);
        for (size_t i = 0; i < y->count; i++) {
                char vkey[NOTE_VKEY_SIZE];
                jw_object(w);
                jw_member_string(w, "vkey", cosigner_format(&y->witness[i], vkey));
                jw_member_u64(w, "size", y->head.size);
                jw_member_time(w, "time", time_ms_of(&y->cosignature[i]));
                jw_end_object(w);
        }
        jw_end_array(w);
}
