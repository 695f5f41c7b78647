/* SPDX-License-Identifier: Apache-2.0
 * complete.c: the last steps of an erasure, in a transaction: its targets are scrubbed, the shards
 * that it waited for are clean, it is completed. The states and their legal moves:
 *
 *   accepted   --erasure_release-->         forgotten   (hold.c: only those submitted under hold)
 *   accepted   --refuse-->                  refused     (hold.c)
 *   forgotten  --erasure_scrubbed-->        forgotten, scrubbed_at set
 *   forgotten  --erasures_complete_shard--> forgotten, one shard less
 *   forgotten  --settle, nothing left-->    completed
 */
#include "daemon/erasure.h"
#include "daemon/opendsr.h"
#include "daemon/state.h"
#include "lib/util/crash_point.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static double seconds_between(int64_t from_ms, int64_t to_ms)
{
        return to_ms > from_ms ? (double)(to_ms - from_ms) / 1e3 : 0;
}

static int append_scrubbed(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                           const struct erasure_row *row, const struct erasure_affected *affected)
{
        struct event ev;
        struct audit_keys keys = {.erasure = id, .reference = row->reference};
        const char **models = NULL;
        int err = affected_models(t, affected, row->affected_count, &models, &keys);
        if (err != 0)
                return err;
        event_begin(&ev);
        event_ulid(&ev, "erasure", id);
        jw_member_u64(&ev.w, "matched", row->matched);
        jw_member_text(&ev.w, "reference", row->reference);
        err = event_append(&ev, s, t, "erasure.scrubbed", "unlearnd", &keys, NULL);
        free(models);
        return err;
}

/* `now`, or the erasure's own last moment where the clock was set back since. */
static int64_t not_before(int64_t now, int64_t ms)
{
        return now > ms ? now : ms;
}

int erasure_settle(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                   struct erasure_row *row, struct erasure_affected *affected, int64_t now)
{
        int err = 0;
        assert(row->state == ERASURE_FORGOTTEN);
        if (row->scrubs_left == 0 && row->scrubbed_ms == 0) {
                row->scrubbed_ms = now = not_before(now, row->forgotten_ms);
                err = append_scrubbed(s, t, id, row, affected);
                CRASH_POINT("erasure.scrubbed");
                metric_observe(METRIC_TIME_TO_SCRUBBED, seconds_between(row->accepted_ms, now));
        }
        if (err == 0 && row->scrubs_left == 0 && row->shards_left == 0) {
                row->state = ERASURE_COMPLETED;
                row->completed_ms = now = not_before(now, row->scrubbed_ms);
                for (uint32_t i = 0; i < row->affected_count; i++)
                        affected[i].state = AFFECTED_COMPLETED;
                err = pending_end(s, t, id, row, now); /* a late one is overdue before it ends */
                if (err == 0)
                        err = certificate_record(s, t, id, row, affected);
                CRASH_POINT("erasure.completed");
                metric_add(METRIC_ERASURES_COMPLETED, 1);
                metric_observe(METRIC_TIME_TO_COMPLETED, seconds_between(row->accepted_ms, now));
                if (err == 0)
                        err = overlap_end(t, id);
                if (err == 0)
                        err = opendsr_tell(s, t, id, row);
        }
        if (err == 0)
                err = t_erasure_put(t, id, row, affected);
        return err;
}

int erasure_scrubbed(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                     uint32_t scrubs)
{
        struct erasure_row row;
        struct erasure_affected *affected = NULL;
        int err = t_erasure_get(t, id, &row, &affected);
        if (err == 0) {
                assert(row.scrubs_left >= scrubs);
                row.scrubs_left -= scrubs;
                err = erasure_settle(s, t, id, &row, affected, now_ms());
        }
        free(affected);
        return err;
}

static int shard_clean(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                       uint32_t model, uint32_t shard)
{
        struct erasure_row row;
        struct erasure_affected *affected = NULL;
        int err = t_erasure_get(t, id, &row, &affected);
        if (err == 0) {
                assert(row.shards_left > 0);
                row.shards_left--;
                for (uint32_t i = 0; i < row.affected_count; i++)
                        if (affected[i].model == model && affected[i].shard == shard)
                                affected[i].state = AFFECTED_COMPLETED;
                err = evidence_ended(s, t, id, model, shard);
                if (err == 0)
                        err = erasure_settle(s, t, id, &row, affected, now_ms());
        }
        free(affected);
        return err;
}

struct waiting_list {
        uint8_t (*id)[ULID_BYTES];
        uint32_t count, max;
};

static int collect(void *arg, const uint8_t id[ULID_BYTES])
{
        struct waiting_list *l = arg;
        if (l->count == l->max)
                return 1;
        memcpy(l->id[l->count++], id, ULID_BYTES);
        return 0;
}

int erasures_complete_shard(struct service *s, struct txn *t, uint32_t model, uint32_t shard,
                            uint32_t max, bool *left)
{
        struct waiting_list l = {.max = max, .id = malloc(max * sizeof *l.id)};
        struct shard_row row;
        if (l.id == NULL)
                return txn_fail(t, UL_NOMEM);
        int err = t_waiting_each(t, model, shard, collect, &l);
        *left = err == 1;
        err = *left ? 0 : err;
        if (err == 0)
                err = t_shard_get(t, model, shard, &row);
        for (uint32_t i = 0; i < l.count && err == 0; i++) {
                err = t_waiting_del(t, model, shard, l.id[i]);
                if (err == 0)
                        err = shard_clean(s, t, l.id[i], model, shard);
        }
        if (err == 0) {
                row.waiting = row.waiting > l.count ? row.waiting - l.count : 0;
                if (!*left) {
                        row.waiting = 0;
                        row.deadline_ms = 0;
                }
                err = t_shard_put(t, model, shard, &row);
        }
        free(l.id);
        return err;
}
