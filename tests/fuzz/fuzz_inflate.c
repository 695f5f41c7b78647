/* SPDX-License-Identifier: Apache-2.0
 * fuzz_inflate.c: compressed uploads, gzip ('0') and zstd ('1'). A hostile stream that is taken
 * must come out the same however it is cut, and an honest one (what follows the first byte,
 * compressed here) as what it was. */
#include "lib/records/ingest_private.h"
#include "tests/fuzz/fuzz.h"
#include <zlib.h>
#include <zstd.h>

enum { OUTPUT_MAX = 1 << 16 }; /* a bomb is cut off: its sender pays for no more */

struct result {
        int err;
        bool complete;
        size_t made;
        uint64_t hash;
};

/* seed 0: the input in one piece and the output in large ones. */
static struct result inflate_all(enum ingest_compression kind, uint64_t seed, const uint8_t *data,
                                 size_t size)
{
        struct result r = {.hash = 1};
        struct inflater *z = NULL;
        struct errinfo e = {0};
        uint8_t out[1024];
        bool full = false;
        assert(inflater_create(kind, &z, &e) == 0);
        for (size_t at = 0; (at < size || full) && r.err == 0 && r.made < OUTPUT_MAX;) {
                const size_t offer = at == size  ? 0
                                     : seed == 0 ? size - at
                                                 : fuzz_piece(&seed, size - at);
                const size_t cap = seed == 0 ? sizeof out : fuzz_piece(&seed, sizeof out);
                size_t used = 0, made = 0;
                r.err = inflater_run(z, data + at, offer, &used, out, cap, &made, &e);
                assert(used <= offer && made <= cap);
                assert(r.err != 0 || used == offer || made == cap); /* it goes on, or is full */
                full = made == cap;
                at += used;
                r.made += made;
                r.hash = fuzz_mix(r.hash, out, made);
        }
        r.complete = r.err == 0 && inflater_complete(z);
        if (r.err != 0)
                fuzz_check_refusal(r.err, &e);
        inflater_destroy(&z);
        return r;
}

static void check_same(enum ingest_compression kind, const struct result *a, const struct result *b)
{
        if (a->made >= OUTPUT_MAX || b->made >= OUTPUT_MAX)
                return; /* cut off at different places */
        /* A frame that is there whole is decoded in one go by zstd, with checks of the content's
         * size that its streaming decoder does not make. */
        if (kind == INGEST_ZSTD && (a->err != 0 || b->err != 0))
                return;
        assert(a->err == b->err && a->complete == b->complete);
        assert(a->err != 0 || (a->made == b->made && a->hash == b->hash));
}

static size_t compress_all(enum ingest_compression kind, const uint8_t *data, size_t size,
                           uint8_t *out, size_t cap)
{
        if (kind == INGEST_ZSTD) {
                const size_t n = ZSTD_compress(out, cap, data, size, 1);
                assert(!ZSTD_isError(n));
                return n;
        }
        z_stream z = {0};
        assert(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        z.next_in = (uint8_t *)(uintptr_t)data;
        z.avail_in = (unsigned)size;
        z.next_out = out;
        z.avail_out = (unsigned)cap;
        assert(deflate(&z, Z_FINISH) == Z_STREAM_END);
        const size_t n = z.total_out;
        (void)deflateEnd(&z);
        return n;
}

static void check_honest(enum ingest_compression kind, uint64_t seed, const uint8_t *data,
                         size_t size)
{
        const size_t cap = size + size / 8 + 128;
        uint8_t *packed = malloc(cap);
        assert(packed != NULL);
        const size_t n = compress_all(kind, data, size, packed, cap);
        const struct result r = inflate_all(kind, seed, packed, n);
        if (r.made < OUTPUT_MAX) {
                assert(r.err == 0 && r.complete && r.made == size);
                assert(r.hash == fuzz_mix(1, data, size));
        }
        free(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const enum ingest_compression kind =
                fuzz_choice(&data, &size, 2) == 0 ? INGEST_GZIP : INGEST_ZSTD;
        const uint64_t seed = fuzz_mix(UINT64_C(0xcbf29ce484222325), data, size) | 1;
        const struct result whole = inflate_all(kind, 0, data, size);
        const struct result cut = inflate_all(kind, seed, data, size);
        check_same(kind, &whole, &cut);
        check_honest(kind, seed, data, size);
        return 0;
}
