/* SPDX-License-Identifier: Apache-2.0
 * prune.c: retention. The bytes of the oldest entries go, and what they were found by; their hashes
 * and the tree stay, so every root, every proof and every checkpoint holds as before. Only whole
 * entry tiles go, from the beginning on: what is left begins at a multiple of TILE_WIDTH. The last
 * entry always stays: its time is the log's. It knows no clock and no configuration. */
#include "lib/audit/log.h"

#include "lib/audit/entry.h"
#include <string.h>

#define BLOB_FIRST "audit_first"
/* Where the sweep of the index is: the last key seen; absent or empty where there is nothing left
 * to sweep. */
#define BLOB_SWEEP "audit_sweep"

uint64_t audit_first(struct txn *t)
{
        struct buf b = {0};
        int err = t_blob_get(t, BLOB_FIRST, &b);
        uint64_t first = err == 0 && b.len == 8 ? get_le64(b.data) : 0;
        if (err == 0 && b.len != 8)
                (void)txn_fail(t, UL_CORRUPT);
        buf_free(&b, false);
        return first;
}

/* The first entry of [lo, hi) that is not older than `ms`; hi where all are. */
static int first_not_older(struct txn *t, uint64_t lo, uint64_t hi, int64_t ms, uint64_t *out)
{
        struct buf entry = {0};
        int err = 0;
        while (lo < hi && err == 0) {
                uint64_t middle = lo + (hi - lo) / 2;
                int64_t time = 0;
                buf_reset(&entry, false);
                err = audit_get(t, middle, &entry, NULL);
                if (err != 0 || !entry_time(entry.data, entry.len, middle, &time))
                        err = txn_fail(t, UL_CORRUPT);
                else if (time >= ms)
                        hi = middle;
                else
                        lo = middle + 1;
        }
        *out = lo;
        buf_free(&entry, false);
        return err;
}

int audit_prune(struct txn *t, int64_t before_ms, uint32_t max, uint64_t *from, uint64_t *to)
{
        uint8_t first[8];
        uint64_t size = audit_size(t);
        *from = *to = audit_first(t);
        int err = txn_error(t);
        if (err != 0 || size == 0)
                return err;
        uint64_t end = *from + max < size - 1 ? *from + max : size - 1;
        if (end <= *from)
                return 0;
        err = first_not_older(t, *from, end, before_ms, &end);
        if (err != 0)
                return err;
        end -= end % TILE_WIDTH;
        if (end <= *from)
                return 0;
        for (uint64_t i = *from; i < end && err == 0; i++)
                err = t_audit_leaf_del(t, i);
        put_le64(first, end);
        if (err == 0)
                err = t_blob_put(t, BLOB_FIRST, first, sizeof first);
        if (err == 0) /* from the beginning again */
                err = t_blob_put(t, BLOB_SWEEP, "\0", 1);
        *to = end;
        return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
}

int audit_sweep(struct txn *t, uint32_t max, bool *left)
{
        struct buf place = {0};
        uint8_t last[AUDIT_INDEX_KEY_BYTES];
        *left = false;
        int err = t_blob_get(t, BLOB_SWEEP, &place);
        if (err == UL_NOT_FOUND || (err == 0 && place.len == 0)) {
                buf_free(&place, false);
                return 0;
        }
        bool begun = place.len == sizeof last;
        if (begun)
                memcpy(last, place.data, sizeof last);
        buf_free(&place, false);
        if (err == 0)
                err = t_audit_index_prune(t, audit_first(t), max, begun ? last : NULL, last, left);
        return err == 0 ? t_blob_put(t, BLOB_SWEEP, last, *left ? sizeof last : 0) : err;
}
