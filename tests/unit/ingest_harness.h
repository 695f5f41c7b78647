/* SPDX-License-Identifier: Apache-2.0
 * ingest_harness.h: drives an ingest over every way of cutting its input into chunks, with a
 * receiver that stops at every event or at none, and keeps what was told for comparison. Each chunk
 * is copied to memory of its exact size, so that a sanitizer sees a read past it. */
#ifndef UNLEARND_TESTS_INGEST_HARNESS_H
#define UNLEARND_TESTS_INGEST_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/records/ingest.h"
#include "lib/util/bytes.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

static const uint8_t harness_key[KEY_BYTES] = {1, 2, 3};

struct event {
        bool bad;
        uint64_t line;
        uint8_t record[PSEUDONYM_BYTES], subject[PSEUDONYM_BYTES];
        uint32_t likelihood;
        uint8_t row[256];
        int code;
        char field[ERRINFO_FIELD_MAX];
        char detail[ERRINFO_DETAIL_MAX];
};

enum { EVENTS_MAX = 300 };
struct run {
        /* what to do */
        struct ingest_options o;
        size_t chunk;  /* bytes a feed; 0: all at once */
        size_t first;  /* bytes of the first feed, if not 0 */
        bool again;    /* UL_AGAIN at every event */
        bool lazy;     /* after UL_AGAIN with all consumed, go on without an empty feed */
        int fail_with; /* the first row's answer, if not 0 */
        /* what happened */
        int err;
        struct errinfo e;
        uint32_t count;
        uint32_t in_call; /* events of this call of feed or finish */
        uint32_t turns;   /* calls that ended with UL_AGAIN though no callback said so */
        struct event events[EVENTS_MAX];
};

static inline int harness_answer(struct run *r)
{
        r->in_call++;
        r->count++;
        if (r->fail_with != 0)
                return r->fail_with;
        return r->again ? UL_AGAIN : 0;
}

static inline int harness_row(void *arg, const struct ingest_row *row)
{
        struct run *r = arg;
        assert_true(r->count < EVENTS_MAX);
        struct event *ev = &r->events[r->count];
        const uint32_t n = row_bytes(&r->o.encoding->shape);
        assert_true(n <= sizeof ev->row);
        assert_true(row_intact(row->row, n));
        assert_memory_equal(row->row, row->record, PSEUDONYM_BYTES);
        ev->line = row->line;
        memcpy(ev->record, row->record, sizeof ev->record);
        memcpy(ev->subject, row->subject, sizeof ev->subject);
        ev->likelihood = row->likelihood;
        memcpy(ev->row, row->row, n);
        return harness_answer(r);
}

static inline int harness_bad(void *arg, uint64_t line, const struct errinfo *why)
{
        struct run *r = arg;
        assert_true(r->count < EVENTS_MAX);
        struct event *ev = &r->events[r->count];
        ev->bad = true;
        ev->line = line;
        ev->code = why->code;
        memcpy(ev->field, why->field, sizeof ev->field);
        memcpy(ev->detail, why->detail, sizeof ev->detail);
        assert_true(why->detail[0] != '\0');
        return harness_answer(r);
}

/* Feeds one chunk until it is taken; false when the ingest ended. */
static inline bool harness_chunk(struct run *r, struct ingest *in, const uint8_t *data, size_t len)
{
        uint8_t *copy = malloc(len > 0 ? len : 1);
        size_t at = 0;
        assert_non_null(copy);
        memcpy(copy, data, len);
        for (;;) {
                size_t used = 12345;
                r->in_call = 0;
                r->err = ingest_feed(in, copy + at, len - at, &used, &r->e);
                assert_true(used <= len - at);
                assert_true(!r->again || r->in_call <= 1);
                if (r->again && r->in_call == 1)
                        assert_int_equal(r->err, UL_AGAIN);
                else if (r->err == UL_AGAIN) /* long enough, for bytes that are decompressed */
                        r->turns++;
                assert_true(r->turns == 0 || r->o.compression != INGEST_PLAIN);
                at += used;
                if (r->err != UL_AGAIN || (r->lazy && at == len))
                        break;
        }
        assert_true(at == len || r->err != 0);
        free(copy);
        return r->err == 0 || r->err == UL_AGAIN;
}

static inline void harness_finish(struct run *r, struct ingest *in)
{
        do {
                r->in_call = 0;
                r->err = ingest_finish(in, &r->e);
                assert_true(!r->again || r->in_call <= 1);
        } while (r->err == UL_AGAIN);
        const uint32_t count = r->count;
        struct errinfo e;
        assert_int_equal(ingest_finish(in, &e), r->err); /* again: nothing new */
        assert_int_equal(r->count, count);
}

/* The whole life of an upload. r->o and the way to cut are set by the caller. */
static inline void harness_run(struct run *r, const void *data, size_t len)
{
        const struct ingest_events ev = {harness_row, harness_bad, r};
        struct ingest *in = NULL;
        size_t at = 0;
        bool alive = true;
        r->count = 0;
        memset(r->events, 0, sizeof r->events);
        assert_int_equal(crypto_init(), 0);
        assert_int_equal(ingest_create(&r->o, &ev, &in, &r->e), 0);
        while (alive && at < len) {
                size_t n = r->chunk == 0 ? len : r->chunk;
                if (at == 0 && r->first != 0)
                        n = r->first;
                if (n > len - at)
                        n = len - at;
                alive = harness_chunk(r, in, (const uint8_t *)data + at, n);
                at += n;
        }
        if (alive) {
                harness_finish(r, in);
        } else {
                size_t used;
                struct errinfo e;
                assert_int_equal(ingest_feed(in, "x", 1, &used, &e), r->err);
                assert_int_equal(used, 0);
                assert_int_equal(ingest_finish(in, &e), r->err);
        }
        ingest_destroy(&in);
        assert_null(in);
}

static inline void harness_same(const struct run *a, const struct run *b)
{
        assert_int_equal(a->err, b->err);
        assert_int_equal(a->count, b->count);
        assert_memory_equal(a->events, b->events, sizeof a->events);
}

/* Every cut in two, and every chunk size that is small or odd, stopping at every row or never. */
static inline void harness_all_cuts(struct run *whole, const void *data, size_t len)
{
        struct run *r = malloc(sizeof *r);
        assert_non_null(r);
        harness_run(whole, data, len);
        for (int mode = 0; mode < 3; mode++) {
                *r = (struct run){.o = whole->o, .again = mode > 0, .lazy = mode == 2};
                for (r->chunk = 0; r->chunk <= 20; r->chunk++) {
                        harness_run(r, data, len);
                        harness_same(whole, r);
                }
                r->chunk = 0;
                for (r->first = 1; r->first < len; r->first++) {
                        harness_run(r, data, len);
                        harness_same(whole, r);
                }
        }
        free(r);
}

/* One member of gzip, or a frame of zstd, appended to out. */
static inline void harness_compress(enum ingest_compression kind, const void *data, size_t len,
                                    struct buf *out)
{
        if (kind == INGEST_ZSTD) {
                const size_t room = ZSTD_compressBound(len), before = out->len;
                void *to = buf_extend(out, room);
                assert_non_null(to);
                const size_t n = ZSTD_compress(to, room, data, len, 3);
                assert_false(ZSTD_isError(n));
                out->len = before + n;
                return;
        }
        z_stream z = {0};
        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        const size_t room = deflateBound(&z, len), before = out->len;
        z.next_out = buf_extend(out, room);
        assert_non_null(z.next_out);
        z.avail_out = (unsigned)room;
        z.next_in = (unsigned char *)(uintptr_t)data;
        z.avail_in = (unsigned)len;
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        out->len = before + z.total_out;
        assert_int_equal(deflateEnd(&z), Z_OK);
}

static inline void harness_row_is(const struct event *ev, uint64_t line, const char *id,
                                  const char *subject)
{
        uint8_t p[PSEUDONYM_BYTES];
        assert_false(ev->bad);
        assert_int_equal(ev->line, line);
        pseudonym_of(harness_key, id, strlen(id), p);
        assert_memory_equal(ev->record, p, sizeof p);
        if (subject == NULL)
                subject = id;
        pseudonym_of(harness_key, subject, strlen(subject), p);
        assert_memory_equal(ev->subject, p, sizeof p);
}

static inline void harness_bad_is(const struct event *ev, uint64_t line, int code,
                                  const char *field)
{
        assert_true(ev->bad);
        assert_int_equal(ev->line, line);
        assert_int_equal(ev->code, code);
        assert_string_equal(ev->field, field);
}

#endif
