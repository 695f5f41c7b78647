/* SPDX-License-Identifier: Apache-2.0
 * entry.c: see entry.h. The members stand in one fixed order without spaces, so the time of an
 * entry is found without parsing it. It knows nothing of the tree. */
#include "lib/audit/entry.h"

#include "lib/util/clock.h"
#include "lib/util/crypto.h"
#include "lib/util/json.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void entry_value(const char *text, uint8_t value[ENTRY_VALUE_BYTES])
{
        uint8_t digest[SHA256_BYTES];
        sha256(text, strlen(text), digest);
        memcpy(value, digest, ENTRY_VALUE_BYTES);
}

void entry_write(struct buf *out, uint64_t index, int64_t time_ms, const char *type,
                 const char *actor, const char *data, size_t data_len)
{
        struct json_writer w;
        char time[RFC3339_SIZE];
        assert(data_len >= 2 && data[0] == '{' && data[data_len - 1] == '}');
        jw_init(&w, out);
        jw_object(&w);
        jw_member_u64(&w, "v", 1);
        jw_member_u64(&w, "index", index);
        jw_member_string(&w, "time", time_format(time_ms, time));
        jw_member_string(&w, "type", type);
        jw_member_string(&w, "actor", actor);
        jw_key(&w, "data");
        jw_raw(&w, data, data_len);
        jw_end_object(&w);
}

bool entry_time(const void *entry, size_t len, uint64_t index, int64_t *ms)
{
        char before[64];
        int n = snprintf(before, sizeof before, "{\"v\":1,\"index\":%" PRIu64 ",\"time\":\"",
                         index);
        if (n < 0 || (size_t)n >= sizeof before || len < (size_t)n ||
            memcmp(entry, before, (size_t)n) != 0)
                return false;
        const char *time = (const char *)entry + n;
        const char *quote = memchr(time, '"', len - (size_t)n);
        return quote != NULL && time_parse(time, (size_t)(quote - time), ms);
}
