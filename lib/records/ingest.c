/* SPDX-License-Identifier: Apache-2.0
 * ingest.c: the frame of an upload: bytes through the decompressor (if any) into a format parser,
 * and the row at hand out through the callback. It keeps the one promise that callers build on:
 * UL_AGAIN stops exactly behind a row, so that none is lost and none is told twice. For plain
 * streams that is a matter of *consumed; for compressed ones the rest of the window waits here. It
 * must not know a format, nor what becomes of a row. */
#include "lib/records/ingest_private.h"

#include "lib/util/bytes.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the line at hand --- */

void held_add(struct held_line *h, const char *data, size_t len)
{
        if (h->overlong || len == 0)
                return;
        if (len > NDJSON_LINE_MAX - h->len) {
                held_clear(h);
                h->overlong = true;
                return;
        }
        memcpy(h->data + h->len, data, len);
        h->len += len;
}

void held_clear(struct held_line *h)
{
        wipe(h->data, h->len);
        h->len = 0;
        h->overlong = false;
}

/* --- the row at hand --- */

/* Whether it is UTF-8 (RFC 3629: shortest form, no surrogates) without NUL: what a JSON string of
 * an erasure request can name. An id that no request can name could never be forgotten. */
static bool id_text_valid(const char *text, size_t len)
{
        const uint8_t *p = (const uint8_t *)text, *end = p + len;
        while (p < end) {
                const uint8_t c = *p++;
                if (c == 0 || (c >= 0x80 && c < 0xc2) || c > 0xf4)
                        return false;
                if (c < 0x80)
                        continue;
                const int more = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
                const uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
                const uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
                if (end - p < more || p[0] < low || p[0] > high)
                        return false;
                for (int i = 1; i < more; i++)
                        if ((p[i] & 0xc0) != 0x80)
                                return false;
                p += more;
        }
        return true;
}

static int set_name(struct ingest *in, const char *field, const char *text, size_t len,
                    uint8_t out[PSEUDONYM_BYTES], struct errinfo *e)
{
        if (len < 1 || len > ID_BYTES_MAX)
                return ul_fail_field(e, UL_INVALID, field, "must be 1..%d bytes long",
                                     ID_BYTES_MAX);
        if (!id_text_valid(text, len))
                return ul_fail_field(e, UL_INVALID, field, "must be UTF-8 without NUL");
        pseudonym_of(in->key, text, len, out);
        return 0;
}

void ingest_row_begin(struct ingest *in)
{
        memset(in->row, 0, in->row_bytes);
        in->likelihood = LIKELIHOOD_UNSET;
}

int ingest_set_id(struct ingest *in, const char *id, size_t len, struct errinfo *e)
{
        int err = set_name(in, "/id", id, len, in->record, e);
        if (err == 0)
                memcpy(in->subject, in->record, PSEUDONYM_BYTES);
        return err;
}

int ingest_set_subject(struct ingest *in, const char *subject, size_t len, struct errinfo *e)
{
        return set_name(in, "/subject", subject, len, in->subject, e);
}

int ingest_set_likelihood(struct ingest *in, const char *text, size_t len, struct errinfo *e)
{
        static const char *const names[] = {[LIKELIHOOD_LOW] = "low",
                                            [LIKELIHOOD_NORMAL] = "normal",
                                            [LIKELIHOOD_HIGH] = "high"};
        for (uint32_t i = LIKELIHOOD_LOW; i <= LIKELIHOOD_HIGH; i++) {
                if (strlen(names[i]) == len && memcmp(names[i], text, len) == 0) {
                        in->likelihood = i;
                        return 0;
                }
        }
        return ul_fail_field(e, UL_INVALID, "/erasure_likelihood",
                             "must be \"low\", \"normal\" or \"high\"");
}

size_t number_text(double v, char out[NUMBER_TEXT_SIZE])
{
        int n = 0;
        if (v == 0)
                v = 0; /* no "-0" */
        if (fabs(v) < 9007199254740992.0 && v == trunc(v)) {
                n = snprintf(out, NUMBER_TEXT_SIZE, "%.0f", v);
        } else {
                for (int digits = 15; digits <= 17; digits++) {
                        n = snprintf(out, NUMBER_TEXT_SIZE, "%.*g", digits, v);
                        if (strtod(out, NULL) == v)
                                break;
                }
        }
        assert(n > 0 && n < NUMBER_TEXT_SIZE);
        return (size_t)n;
}

int ingest_set_label_number(struct ingest *in, double value, struct errinfo *e)
{
        char text[NUMBER_TEXT_SIZE];
        size_t len = number_text(value, text);
        int err = encode_label_text(in->enc, text, len, in->row, e);
        wipe(text, sizeof text);
        return err;
}

int ingest_set_features(struct ingest *in, struct errinfo *e)
{
        const struct encoding *enc = in->enc;
        uint32_t at;
        int err = encode_features(&enc->shape, in->features, in->row, e);
        if (err == 0 || enc->column_count == 0 || sscanf(e->field, "/features/%u", &at) != 1)
                return err;
        uint32_t c = 0; /* the client wrote a column, not a feature */
        for (uint32_t i = 1; i < enc->column_count; i++)
                if (enc->columns[i].first_feature <= at &&
                    enc->columns[i].first_feature >= enc->columns[c].first_feature)
                        c = i;
        (void)column_pointer(enc->columns[c].name, e->field);
        return err;
}

int ingest_deliver(struct ingest *in, uint64_t line)
{
        struct ingest_row r = {.line = line, .likelihood = in->likelihood, .row = in->row};
        memcpy(in->row, in->record, PSEUDONYM_BYTES);
        row_seal(in->row, in->row_bytes);
        memcpy(r.record, in->record, PSEUDONYM_BYTES);
        memcpy(r.subject, in->subject, PSEUDONYM_BYTES);
        return in->events.row(in->events.arg, &r);
}

int ingest_refuse(struct ingest *in, uint64_t line, const struct errinfo *why)
{
        return in->events.bad(in->events.arg, line, why);
}

int ingest_refuse_overlong(struct ingest *in, uint64_t line)
{
        struct errinfo why = {0};
        (void)ul_fail(&why, UL_TOO_LARGE, "the line is longer than %d bytes", NDJSON_LINE_MAX);
        return ingest_refuse(in, line, &why);
}

/* --- columns by name --- */

static int compare_columns(const void *a, const void *b, void *arg)
{
        const struct encoding_column *columns = arg;
        return strcmp(columns[*(const uint32_t *)a].name, columns[*(const uint32_t *)b].name);
}

static int order_columns(struct ingest *in, struct errinfo *e)
{
        const uint32_t n = in->enc->column_count;
        if (n == 0)
                return 0;
        in->column_order = malloc(n * sizeof *in->column_order);
        if (in->column_order == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for an upload");
        for (uint32_t i = 0; i < n; i++)
                in->column_order[i] = i;
        qsort_r(in->column_order, n, sizeof *in->column_order, compare_columns,
                (void *)(uintptr_t)in->enc->columns);
        return 0;
}

long column_find(const struct ingest *in, const char *name, size_t len)
{
        uint32_t low = 0, high = in->enc->column_count;
        while (low < high) {
                const uint32_t middle = low + (high - low) / 2;
                const char *have = in->enc->columns[in->column_order[middle]].name;
                int order = strncmp(have, name, len);
                if (order == 0 && have[strnlen(have, len)] != '\0')
                        order = 1; /* the name is the beginning of this one */
                if (order == 0)
                        return strnlen(have, len) == len ? (long)in->column_order[middle] : -1;
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return -1;
}

/* --- create, feed, finish, destroy --- */

static int check_options(const struct ingest_options *o, struct errinfo *e)
{
        const struct encoding *enc = o->encoding;
        assert(enc != NULL && o->pseudonym_key != NULL);
        assert(enc->encoder <= 2 && enc->shape.dtype <= 2);
        assert(enc->shape.features > 0 && enc->shape.features <= FEATURES_MAX);
        assert((enc->classes == 0) == (enc->shape.targets > 0));
        assert((enc->encoder == ENCODE_TABULAR) == (enc->column_count > 0));
        if (o->format == INGEST_NPY && enc->encoder != ENCODE_NONE)
                return ul_fail(e, UL_UNSUPPORTED,
                               "npy holds features, and this model takes text or columns: "
                               "use ndjson or csv");
        /* A word that is there twice counts two, which is not a bit. */
        if (enc->encoder == ENCODE_HASH_TEXT && enc->shape.dtype == 2)
                return ul_fail(e, UL_INVALID, "hash_text needs dtype u8 or f32");
        const char *prefix = o->id_prefix == NULL ? "" : o->id_prefix;
        const size_t len = strnlen(prefix, ID_BYTES_MAX);
        if (len + NUMBER_TEXT_SIZE > ID_BYTES_MAX)
                return ul_fail_field(e, UL_INVALID, "id_prefix", "must be at most %d bytes long",
                                     ID_BYTES_MAX - NUMBER_TEXT_SIZE);
        if (!id_text_valid(prefix, len))
                return ul_fail_field(e, UL_INVALID, "id_prefix", "must be UTF-8");
        return 0;
}

static int allocate(struct ingest *in, struct errinfo *e)
{
        in->row = calloc(1, in->row_bytes);
        in->features = calloc(in->enc->shape.features, sizeof *in->features);
        if (in->parser != &npy_parser) {
                in->held.data = malloc(NDJSON_LINE_MAX);
                in->scratch = malloc(NDJSON_LINE_MAX);
        }
        if (in->row == NULL || in->features == NULL ||
            (in->parser != &npy_parser && (in->held.data == NULL || in->scratch == NULL)))
                return ul_fail(e, UL_NOMEM, "no memory for an upload");
        return order_columns(in, e);
}

static int start_decompression(struct ingest *in, enum ingest_compression kind, struct errinfo *e)
{
        if (kind == INGEST_PLAIN)
                return 0;
        in->window = malloc(INGEST_WINDOW_BYTES);
        if (in->window == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for an upload");
        return inflater_create(kind, &in->inflater, e);
}

int ingest_create(const struct ingest_options *o, const struct ingest_events *ev,
                  struct ingest **out, struct errinfo *e)
{
        static const struct ingest_parser *const parsers[] = {
                [INGEST_NDJSON] = &ndjson_parser,
                [INGEST_CSV] = &csv_parser,
                [INGEST_NPY] = &npy_parser,
        };
        assert(o->format <= INGEST_NPY && o->compression <= INGEST_ZSTD);
        assert(ev->row != NULL && ev->bad != NULL);
        *out = NULL;
        int err = check_options(o, e);
        if (err)
                return err;
        struct ingest *in = calloc(1, sizeof *in);
        if (in == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for an upload");
        in->parser = parsers[o->format];
        in->enc = o->encoding;
        in->events = *ev;
        in->key = o->pseudonym_key;
        in->labels_required = o->labels_required;
        in->row_bytes = row_bytes(&o->encoding->shape);
        if (o->id_prefix != NULL)
                memcpy(in->id_prefix, o->id_prefix, strlen(o->id_prefix) + 1);
        err = allocate(in, e);
        if (err == 0)
                err = start_decompression(in, o->compression, e);
        if (err == 0)
                err = in->parser->create(in, e);
        if (err)
                ingest_destroy(&in);
        *out = in;
        return err;
}

/* What is left of the window to the parser. */
static int drain_window(struct ingest *in, struct errinfo *e)
{
        size_t took = 0;
        if (in->window_at == in->window_len)
                return 0;
        int err = in->parser->feed(in, (const char *)in->window + in->window_at,
                                   in->window_len - in->window_at, &took, e);
        in->window_at += took;
        assert(err != 0 || in->window_at == in->window_len);
        return err;
}

static int feed_compressed(struct ingest *in, const char *data, size_t len, size_t *consumed,
                           struct errinfo *e)
{
        for (int windows = 0;; windows++) {
                size_t used = 0, made = 0;
                int err = drain_window(in, e);
                if (err)
                        return err;
                if (*consumed == len && !in->inflater_full)
                        return 0;
                if (windows == INGEST_WINDOWS_A_CALL)
                        return UL_AGAIN;
                err = inflater_run(in->inflater, data + *consumed, len - *consumed, &used,
                                   in->window, INGEST_WINDOW_BYTES, &made, e);
                if (err)
                        return err;
                if (used == 0 && made == 0 && *consumed < len)
                        return ul_fail(e, UL_INTERNAL, "the decompressor stands still");
                *consumed += used;
                in->window_at = 0;
                in->window_len = made;
                in->inflater_full = made == INGEST_WINDOW_BYTES;
        }
}

/* Any error but UL_AGAIN is the end. */
static int note_end(struct ingest *in, int err)
{
        if (err != 0 && err != UL_AGAIN)
                in->ended = err;
        return err;
}

static int begin_call(struct ingest *in, struct errinfo *e)
{
        if (e != NULL)
                *e = (struct errinfo){0};
        if (in->ended != 0)
                return ul_fail(e, in->ended, "the upload has ended with an error already");
        return 0;
}

int ingest_feed(struct ingest *in, const void *data, size_t len, size_t *consumed,
                struct errinfo *e)
{
        static const char nothing[1];
        *consumed = 0;
        assert(!in->finished);
        int err = begin_call(in, e);
        if (err)
                return err;
        const char *bytes = len == 0 ? nothing : data;
        if (in->inflater != NULL)
                err = feed_compressed(in, bytes, len, consumed, e);
        else
                err = in->parser->feed(in, bytes, len, consumed, e);
        return note_end(in, err);
}

int ingest_finish(struct ingest *in, struct errinfo *e)
{
        size_t consumed = 0;
        int err = begin_call(in, e);
        if (err || in->finished)
                return err;
        if (in->inflater != NULL) {
                err = feed_compressed(in, "", 0, &consumed, e);
                if (err == 0 && !inflater_complete(in->inflater))
                        err = ul_fail(e, UL_SYNTAX, "the compressed stream is cut short");
                if (err)
                        return note_end(in, err);
        }
        in->finished = true; /* before the last row: UL_AGAIN from it must not tell it twice */
        return note_end(in, in->parser->finish(in, e));
}

static void wipe_free(void *p, size_t len)
{
        if (p != NULL)
                wipe(p, len);
        free(p);
}

void ingest_destroy(struct ingest **pin)
{
        struct ingest *in = *pin;
        if (in == NULL)
                return;
        in->parser->destroy(in);
        inflater_destroy(&in->inflater);
        wipe_free(in->window, INGEST_WINDOW_BYTES);
        if (in->held.data != NULL)
                held_clear(&in->held);
        free(in->held.data);
        free(in->scratch); /* wiped after each line, by who filled it */
        free(in->column_order);
        wipe_free(in->features, in->enc->shape.features * sizeof *in->features);
        wipe_free(in->row, in->row_bytes);
        wipe(in, sizeof *in);
        free(in);
        *pin = NULL;
}
