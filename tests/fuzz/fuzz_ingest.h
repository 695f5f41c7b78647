/* SPDX-License-Identifier: Apache-2.0
 * fuzz_ingest.h: an upload of hostile bytes, for the targets of the three formats. The result must
 * not depend on how the network cuts the bytes, nor on how often the receiver asks for a pause:
 * each input is fed three ways, and what came out is compared. Every row that is accepted is
 * looked at: sealed, under its own pseudonym, its numbers within what the model's dtype holds. */
#ifndef UNLEARND_TESTS_FUZZ_INGEST_H
#define UNLEARND_TESTS_FUZZ_INGEST_H

#include "lib/records/ingest.h"
#include "lib/util/limits.h"
#include "tests/fuzz/fuzz.h"
#include <math.h>

enum { FUZZ_FEATURES_MAX = 64, DTYPE_F32 = 0, DTYPE_U8 = 1, DTYPE_BIT = 2 };

/* What came out of one run. */
struct fuzz_run {
        const struct ingest_options *o;
        bool pause; /* UL_AGAIN at every event */
        uint64_t events, last_line;
        uint64_t hash; /* of all events, in order */
        int err;
};

static inline int fuzz_answer(struct fuzz_run *r, uint64_t line)
{
        assert(line >= 1 && line >= r->last_line);
        r->last_line = line;
        r->events++;
        r->hash = fuzz_mix(r->hash, &line, sizeof line);
        return r->pause ? UL_AGAIN : 0;
}

static inline void fuzz_check_label(const struct encoding *enc, const uint8_t *row)
{
        if (enc->shape.targets == 0) {
                assert(get_le32(row + ROW_LABEL_OFFSET) < enc->classes);
                return;
        }
        for (uint32_t i = 0; i < enc->shape.targets; i++) {
                float v;
                memcpy(&v, row + ROW_LABEL_OFFSET + 4 * (size_t)i, sizeof v);
                assert(isfinite(v));
        }
}

static inline int fuzz_on_row(void *arg, const struct ingest_row *row)
{
        struct fuzz_run *r = arg;
        const struct encoding *enc = r->o->encoding;
        const uint32_t bytes = row_bytes(&enc->shape);
        float x[FUZZ_FEATURES_MAX];
        assert(row_intact(row->row, bytes) && !row_erased(row->row));
        assert(memcmp(row->row, row->record, PSEUDONYM_BYTES) == 0);
        assert(row->likelihood <= LIKELIHOOD_HIGH);
        fuzz_check_label(enc, row->row);
        row_widen(&enc->shape, row->row, x);
        for (uint32_t i = 0; i < enc->shape.features; i++)
                assert(isfinite(x[i]));
        r->hash = fuzz_mix(r->hash, row->row, bytes);
        r->hash = fuzz_mix(r->hash, row->subject, PSEUDONYM_BYTES);
        r->hash = fuzz_mix(r->hash, &row->likelihood, sizeof row->likelihood);
        return fuzz_answer(r, row->line);
}

static inline int fuzz_on_bad(void *arg, uint64_t line, const struct errinfo *why)
{
        struct fuzz_run *r = arg;
        fuzz_check_refusal(why->code, why);
        r->hash = fuzz_mix(r->hash, &why->code, sizeof why->code);
        r->hash = fuzz_mix(r->hash, why->field, strlen(why->field) + 1);
        r->hash = fuzz_mix(r->hash, why->detail, strlen(why->detail) + 1);
        return fuzz_answer(r, line);
}

/* Feeds one piece, in memory of its exact size, until it is taken. */
static inline int fuzz_feed(struct ingest *in, const uint8_t *data, size_t size, struct errinfo *e)
{
        uint8_t *copy = malloc(size > 0 ? size : 1);
        size_t at = 0;
        int err;
        assert(copy != NULL);
        memcpy(copy, data, size);
        do {
                size_t used = 0;
                err = ingest_feed(in, copy + at, size - at, &used, e);
                assert(used <= size - at);
                at += used;
        } while (err == UL_AGAIN);
        assert(err != 0 || at == size);
        free(copy);
        return err;
}

/* seed 0: in one piece. */
static inline struct fuzz_run fuzz_upload(const struct ingest_options *o, bool pause, uint64_t seed,
                                          const uint8_t *data, size_t size)
{
        struct fuzz_run r = {.o = o, .pause = pause, .hash = 1};
        const struct ingest_events events = {fuzz_on_row, fuzz_on_bad, &r};
        struct errinfo e = {0};
        struct ingest *in = NULL;
        assert(ingest_create(o, &events, &in, &e) == 0);
        for (size_t at = 0, n; at < size && r.err == 0; at += n) {
                n = seed == 0 ? size : fuzz_piece(&seed, size - at);
                r.err = fuzz_feed(in, data + at, n, &e);
        }
        while (r.err == 0 && (r.err = ingest_finish(in, &e)) == UL_AGAIN)
                r.err = 0;
        if (r.err != 0) {
                fuzz_check_refusal(r.err, &e);
                r.hash = fuzz_mix(r.hash, e.detail, strlen(e.detail));
        }
        ingest_destroy(&in);
        return r;
}

static inline void fuzz_ingest(const struct ingest_options *o, const uint8_t *data, size_t size)
{
        const uint64_t seed = fuzz_mix(UINT64_C(0xcbf29ce484222325), data, size) | 1;
        const struct fuzz_run whole = fuzz_upload(o, false, 0, data, size);
        const struct fuzz_run cut = fuzz_upload(o, false, seed, data, size);
        const struct fuzz_run paused = fuzz_upload(o, true, seed + 2, data, size);
        assert(whole.err == cut.err && whole.err == paused.err);
        assert(whole.events == cut.events && whole.events == paused.events);
        assert(whole.hash == cut.hash && whole.hash == paused.hash);
}

/* --- the models that are uploaded to --- */

static const uint8_t fuzz_key[KEY_BYTES] = {1, 2, 3};
static const char *const fuzz_labels[] = {"0", "1", "spam", "-7"};
static const char *const fuzz_values[] = {"clerk", "nurse"};
static const struct encoding_column fuzz_columns[] = {
        {.name = "age"},
        {.name = "job",
         .categorical = true,
         .value_count = 2,
         .values = fuzz_values,
         .first_feature = 1},
};
enum { FUZZ_ENCODINGS = 6, FUZZ_PLAIN_ENCODINGS = 4 };
static const struct encoding fuzz_encodings[FUZZ_ENCODINGS] = {
        {.shape = {DTYPE_F32, 2, 0}, .classes = 4, .labels = fuzz_labels},
        {.shape = {DTYPE_U8, 2, 0}, .classes = 2, .labels = fuzz_labels},
        {.shape = {DTYPE_BIT, 9, 0}, .classes = 2, .labels = fuzz_labels},
        {.shape = {DTYPE_F32, 2, 2}},
        {.shape = {DTYPE_U8, 64, 0}, .encoder = 1, .classes = 4, .labels = fuzz_labels},
        {.shape = {DTYPE_F32, 4, 0},
         .encoder = 2,
         .classes = 4,
         .labels = fuzz_labels,
         .column_count = 2,
         .columns = fuzz_columns},
};

/* The input's first byte: which of the first `encodings` models ('0', '1', ...), and, counting on,
 * the same without a need for labels. */
static inline void fuzz_ingest_format(enum ingest_format format, uint32_t encodings,
                                      const uint8_t *data, size_t size)
{
        const uint32_t choice = fuzz_choice(&data, &size, 2 * encodings);
        const struct ingest_options o = {
                .format = format,
                .encoding = &fuzz_encodings[choice % encodings],
                .pseudonym_key = fuzz_key,
                .id_prefix = "row-",
                .labels_required = choice < encodings,
        };
        fuzz_ingest(&o, data, size);
}

#endif
