/* SPDX-License-Identifier: Apache-2.0
 * t_deadlines.c: (noted, deadline, ulid) -> nothing: the erasures that have not ended, by deadline;
 * apart those of which the log has said that they are overdue. It knows no clock. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <assert.h>
#include <string.h>

enum { KEY_BYTES_DEADLINE = 1 + 8 + ULID_BYTES };

static void deadline_key(uint8_t key[KEY_BYTES_DEADLINE], bool noted, int64_t deadline_ms,
                         const uint8_t *id)
{
        assert(deadline_ms >= 0); /* else it would not sort */
        key[0] = noted;
        put_be64(key + 1, (uint64_t)deadline_ms);
        memcpy(key + 9, id, ULID_BYTES);
}

int t_deadline_put(struct txn *t, bool noted, int64_t deadline_ms, const uint8_t id[ULID_BYTES])
{
        uint8_t key[KEY_BYTES_DEADLINE];
        deadline_key(key, noted, deadline_ms, id);
        return db_put(t, TABLE_DEADLINES, key, sizeof key, NULL, 0);
}

int t_deadline_del(struct txn *t, bool noted, int64_t deadline_ms, const uint8_t id[ULID_BYTES])
{
        uint8_t key[KEY_BYTES_DEADLINE];
        deadline_key(key, noted, deadline_ms, id);
        return db_del(t, TABLE_DEADLINES, key, sizeof key);
}

struct deadline_walk {
        struct txn *t;
        t_deadline_fn fn;
        void *arg;
};

static int on_deadline(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct deadline_walk *w = arg;
        uint8_t id[ULID_BYTES];
        (void)unpack_room(key, 1);
        int64_t deadline_ms = (int64_t)unpack_key64(key);
        unpack_bytes(key, id, sizeof id);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, deadline_ms, id);
}

int t_deadline_each(struct txn *t, bool noted, t_deadline_fn fn, void *arg)
{
        uint8_t prefix = noted;
        struct deadline_walk w = {.t = t, .fn = fn, .arg = arg};
        return db_walk(t, TABLE_DEADLINES, &(struct db_span){.prefix = &prefix, .prefix_len = 1},
                       on_deadline, &w);
}
