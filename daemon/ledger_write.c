/* SPDX-License-Identifier: Apache-2.0
 * ledger_write.c: the erasure ledger while the daemon serves. What a group of commands accepted is
 * appended and synced as one group of lines before the group commits, and so before any of its
 * clients is answered.
 *
 * Why that order: an erasure that is in the database alone would be lost with it. One that is in
 * the ledger alone is not: a crash between the two leaves an erasure that nobody was told of, and
 * the next start replays it, which forgets somebody whose erasure was asked for and authorised. A
 * ledger that cannot be written refuses the group; a commit that fails takes the lines back, unless
 * only the next start can tell whether it was made: that is a crash between the two. Each commit
 * that appended notes in the same transaction how far the ledger goes. */
#include "daemon/erasure_ledger.h"
#include "daemon/state.h"

#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <stdlib.h>
#include <string.h>

enum { RETRY_AFTER_S = 5, MARK_BYTES = 8 + LEDGER_CHECK_BYTES };
static const char mark_name[] = "ledger_mark";

/* --- lines --- */

void ledger_note_erasure(struct service *s, struct buf *lines, const struct erase_request *r,
                         const struct erasure_view *v)
{
        if (s->ledger == NULL || v->replayed || r->hold) /* held: at its release */
                return;
        struct ledger_entry x;
        if (ledger_entry_of(r, v->id, &x) != 0) {
                lines->failed = true; /* seen before the commit */
                return;
        }
        x.time_ms = v->accepted_ms;
        x.received_ms = v->received_ms;
        x.deadline_ms = v->deadline_ms;
        ledger_entry_write(lines, &x);
        free(x.records);
}

void ledger_note_lift(struct service *s, struct buf *lines, const uint8_t id[ULID_BYTES],
                      int64_t lifted_ms, const uint8_t pseudonym[PSEUDONYM_BYTES])
{
        struct ledger_entry x = {.kind = LEDGER_LIFT, .time_ms = lifted_ms};
        if (s->ledger == NULL)
                return;
        memcpy(x.id, id, ULID_BYTES);
        memcpy(x.pseudonym, pseudonym, PSEUDONYM_BYTES);
        ledger_entry_write(lines, &x);
}

void ledger_note_import(struct service *s, struct buf *lines, const uint8_t id[ULID_BYTES],
                        int64_t imported_ms, struct ledger_suppression *suppressions,
                        uint32_t count)
{
        struct ledger_entry x = {.kind = LEDGER_IMPORT,
                                 .time_ms = imported_ms,
                                 .suppressions = suppressions,
                                 .suppression_count = count};
        if (s->ledger == NULL || count == 0)
                return;
        memcpy(x.id, id, ULID_BYTES);
        ledger_entry_write(lines, &x);
}

/* --- how far it goes --- */

int ledger_mark_get(struct txn *t, struct ledger_mark *out, bool *known)
{
        struct buf b = {0};
        *out = (struct ledger_mark){0};
        int err = t_blob_get(t, mark_name, &b);
        *known = err == 0 && b.len == MARK_BYTES;
        if (*known) {
                out->bytes = get_le64(b.data);
                memcpy(out->check, b.data + 8, LEDGER_CHECK_BYTES);
        }
        buf_free(&b, false);
        return err == UL_NOT_FOUND ? 0 : err;
}

int ledger_mark_put(struct txn *t, const struct ledger_mark *mark)
{
        uint8_t b[MARK_BYTES];
        if (mark == NULL)
                return t_blob_put(t, mark_name, "", 0);
        put_le64(b, mark->bytes);
        memcpy(b + 8, mark->check, LEDGER_CHECK_BYTES);
        return t_blob_put(t, mark_name, b, sizeof b);
}

/* --- the writer's hooks --- */

static int refuse(struct service *s, int err, struct errinfo *e)
{
        struct errinfo why = *e;
        metric_add(METRIC_LEDGER_FAILURES, 1);
        health_begin(&s->health, HEALTH_LEDGER, err, why.detail);
        if (err != UL_NOMEM)
                err = UL_UNAVAILABLE; /* nothing was accepted: to be sent again */
        (void)ul_fail(e, err, "the erasure ledger cannot be written, so nothing was accepted: %s",
                      why.detail);
        e->retry_after_s = RETRY_AFTER_S;
        return err;
}

int ledger_before_commit(void *service, const struct command *first, struct txn *t,
                         struct errinfo *e)
{
        struct service *s = service;
        struct ledger_mark end;
        struct buf lines = {0};
        int err = 0;
        s->ledger_appended = s->ledger_noted = false;
        if (s->ledger == NULL)
                return 0;
        for (const struct command *c = first; c != NULL; c = c->next) {
                if (c->err != 0)
                        continue;
                buf_append(&lines, c->ledger.data, c->ledger.len);
                lines.failed = lines.failed || c->ledger.failed;
        }
        if (lines.failed)
                err = ul_fail(e, UL_NOMEM, "no memory for the erasure ledger");
        else if (lines.len > 0)
                err = ledger_append(s->ledger, &lines, e);
        if (err == 0 && lines.len > 0)
                CRASH_POINT("ledger.appended");
        if (err != 0)
                err = refuse(s, err, e);
        else
                s->ledger_appended = lines.len > 0;
        if (s->ledger_appended)
                health_end(&s->health, HEALTH_LEDGER);
        if (err == 0 && (s->ledger_appended || s->ledger_due)) {
                ledger_end(s->ledger, &end);
                (void)ledger_mark_put(t, &end); /* the commit has its error */
                s->ledger_noted = true;
                s->ledger_due = false;
        }
        buf_free(&lines, false);
        return err;
}

void ledger_commit_failed(void *service)
{
        struct service *s = service;
        if (s->ledger == NULL)
                return;
        if (s->ledger_appended && !store_broken(s->store))
                ledger_take_back(s->ledger);
        s->ledger_due = s->ledger_due || s->ledger_noted;
        s->ledger_appended = s->ledger_noted = false;
}
