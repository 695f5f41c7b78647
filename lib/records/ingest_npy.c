/* SPDX-License-Identifier: Apache-2.0
 * ingest_npy.c: NumPy's array file (NEP 1), versions 1.0 and 2.0: a short header that is a Python
 * dictionary, then rows of plain numbers. The header is read by a parser of just that dictionary.
 * Labels are the last column or columns, since the format has no other place for them, and ids are
 * a prefix and the row's number. */
#include "lib/records/ingest_private.h"

#include "lib/util/bytes.h"
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        NPY_HEADER_MAX = 4096, /* numpy writes 118 bytes; other writers pad */
        NPY_PREAMBLE_MAX = 12, /* magic, version, length of the header */
        NPY_WIDEST = 8,
};

enum npy_type { NPY_F4, NPY_F8, NPY_U1, NPY_I1, NPY_I2, NPY_I4, NPY_I8, NPY_B1 };

static const struct {
        const char *descr;
        enum npy_type type;
        uint32_t bytes;
} npy_types[] = {
        {"<f4", NPY_F4, 4}, {"<f8", NPY_F8, 8}, {"|u1", NPY_U1, 1}, {"|i1", NPY_I1, 1},
        {"<i2", NPY_I2, 2}, {"<i4", NPY_I4, 4}, {"<i8", NPY_I8, 8}, {"|b1", NPY_B1, 1},
};

struct npy {
        /* the preamble and header, as far as they have arrived */
        uint8_t head[NPY_PREAMBLE_MAX + NPY_HEADER_MAX];
        size_t head_len, head_need; /* need: known once the preamble is there */

        /* from the header */
        bool ready;
        enum npy_type type;
        uint32_t item_bytes;
        uint64_t rows;
        uint64_t columns;
        bool labelled;
        size_t source_bytes; /* of a row */

        /* a row that arrives in pieces */
        uint8_t *partial; /* [source_bytes] */
        size_t partial_len;
};

/* --- the header's dictionary --- */

struct scan {
        const char *at, *end;
};

static void skip_space(struct scan *s)
{
        while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n'))
                s->at++;
}

/* The next token is this character. */
static bool take_char(struct scan *s, char c)
{
        skip_space(s);
        if (s->at == s->end || *s->at != c)
                return false;
        s->at++;
        return true;
}

static bool take_word(struct scan *s, const char *word)
{
        const size_t len = strlen(word);
        skip_space(s);
        if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0)
                return false;
        s->at += len;
        return true;
}

/* A short string in either quote, without escapes. */
static bool take_string(struct scan *s, char out[16])
{
        skip_space(s);
        if (s->at == s->end || (*s->at != '\'' && *s->at != '"'))
                return false;
        const char quote = *s->at++;
        const char *close = memchr(s->at, quote, (size_t)(s->end - s->at));
        if (close == NULL || close - s->at >= 16)
                return false;
        memcpy(out, s->at, (size_t)(close - s->at));
        out[close - s->at] = '\0';
        s->at = close + 1;
        return true;
}

static bool take_count(struct scan *s, uint64_t *out)
{
        skip_space(s);
        const char *start = s->at;
        *out = 0;
        while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
                if (__builtin_mul_overflow(*out, 10u, out) ||
                    __builtin_add_overflow(*out, (uint64_t)(*s->at - '0'), out))
                        return false;
                s->at++;
        }
        return s->at > start;
}

static bool take_shape(struct scan *s, struct npy *n)
{
        if (!take_char(s, '(') || !take_count(s, &n->rows) || !take_char(s, ',') ||
            !take_count(s, &n->columns))
                return false;
        (void)take_char(s, ',');
        return take_char(s, ')');
}

static int take_type(const char *descr, struct npy *n, struct errinfo *e)
{
        for (size_t i = 0; i < sizeof npy_types / sizeof npy_types[0]; i++) {
                if (strcmp(descr, npy_types[i].descr) == 0) {
                        n->type = npy_types[i].type;
                        n->item_bytes = npy_types[i].bytes;
                        return 0;
                }
        }
        return ul_fail(e, UL_SYNTAX,
                       "the npy dtype must be one of <f4 <f8 |u1 |i1 <i2 <i4 <i8 "
                       "|b1: convert with astype");
}

static int malformed(struct errinfo *e)
{
        return ul_fail(e, UL_SYNTAX, "the npy header is not that of one array");
}

/* The value of one key. */
static int take_entry(struct scan *s, const char *key, struct npy *n, struct errinfo *e)
{
        char descr[16];
        if (strcmp(key, "descr") == 0)
                return take_string(s, descr)
                               ? take_type(descr, n, e)
                               : ul_fail(e, UL_SYNTAX, "the npy array must have one plain dtype");
        if (strcmp(key, "shape") == 0)
                return take_shape(s, n) ? 0
                                        : ul_fail(e, UL_SYNTAX,
                                                  "the npy array must have the shape "
                                                  "[rows, columns]");
        if (strcmp(key, "fortran_order") != 0)
                return malformed(e);
        if (take_word(s, "True"))
                return ul_fail(e, UL_SYNTAX,
                               "the npy array is in Fortran order: save "
                               "numpy.ascontiguousarray of it");
        return take_word(s, "False") ? 0 : malformed(e);
}

static int parse_dictionary(struct npy *n, const char *text, size_t len, struct errinfo *e)
{
        static const char *const keys[] = {"descr", "fortran_order", "shape"};
        struct scan s = {text, text + len};
        uint32_t seen = 0;
        char key[16];
        if (!take_char(&s, '{'))
                return malformed(e);
        while (!take_char(&s, '}')) {
                if (!take_string(&s, key) || !take_char(&s, ':'))
                        return malformed(e);
                uint32_t k = 0;
                while (k < 3 && strcmp(key, keys[k]) != 0)
                        k++;
                if (k == 3 || (seen & (1u << k)) != 0)
                        return malformed(e);
                seen |= 1u << k;
                int err = take_entry(&s, key, n, e);
                if (err)
                        return err;
                if (!take_char(&s, ',')) {
                        if (!take_char(&s, '}'))
                                return malformed(e);
                        break;
                }
        }
        skip_space(&s);
        return seen == 7 && s.at == s.end ? 0 : malformed(e);
}

/* --- from the header to rows --- */

static int check_shape(struct ingest *in, struct errinfo *e)
{
        struct npy *n = in->state;
        const uint32_t features = in->enc->shape.features;
        const uint32_t labels = in->enc->shape.targets > 0 ? in->enc->shape.targets : 1;
        n->labelled = n->columns == (uint64_t)features + labels;
        if (!n->labelled && (in->labels_required || n->columns != features))
                return ul_fail(e, UL_SYNTAX,
                               "the npy array has %" PRIu64
                               " columns, not the model's %u features and %u of labels",
                               n->columns, features, labels);
        n->source_bytes = (size_t)n->columns * n->item_bytes;
        n->partial = malloc(n->source_bytes);
        if (n->partial == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for an upload");
        n->ready = true;
        return 0;
}

/* Once the preamble is there: how long the whole head is. */
static int read_preamble(struct npy *n, struct errinfo *e)
{
        const uint8_t *p = n->head;
        if (memcmp(p, "\x93NUMPY", 6) != 0)
                return ul_fail(e, UL_SYNTAX, "the body is not an npy file");
        if ((p[6] != 1 && p[6] != 2) || p[7] != 0)
                return ul_fail(e, UL_SYNTAX, "npy version %u.%u is not known: save as 1.0 or 2.0",
                               p[6], p[7]);
        const size_t preamble = p[6] == 1 ? 10 : 12;
        if (n->head_len < preamble) {
                n->head_need = preamble;
                return 0;
        }
        const uint32_t len = p[6] == 1 ? get_le16(p + 8) : get_le32(p + 8);
        if (len > NPY_HEADER_MAX)
                return ul_fail(e, UL_SYNTAX, "the npy header is longer than %d bytes",
                               NPY_HEADER_MAX);
        n->head_need = preamble + len;
        return 0;
}

/* Takes bytes of the head; its need grows as it becomes known: 10, (12), all. */
static int feed_head(struct ingest *in, const char *data, size_t len, size_t *consumed,
                     struct errinfo *e)
{
        struct npy *n = in->state;
        while (!n->ready && *consumed < len) {
                const size_t left = len - *consumed, need = n->head_need - n->head_len;
                const size_t take = left < need ? left : need;
                memcpy(n->head + n->head_len, data + *consumed, take);
                n->head_len += take;
                *consumed += take;
                if (n->head_len < n->head_need)
                        return 0;
                int err = 0;
                if (n->head_len <= NPY_PREAMBLE_MAX)
                        err = read_preamble(n, e);
                if (err == 0 && n->head_len == n->head_need) {
                        const size_t preamble = n->head[6] == 1 ? 10 : 12;
                        err = parse_dictionary(n, (const char *)n->head + preamble,
                                               n->head_len - preamble, e);
                        if (err == 0)
                                err = check_shape(in, e);
                }
                if (err)
                        return err;
        }
        return 0;
}

/* --- rows --- */

/* Element i of a row. Integers over 2^53 lose what a float could not hold anyway. */
static double element(enum npy_type type, const uint8_t *p, size_t i)
{
        uint32_t u32;
        uint64_t u64;
        float f4;
        double f8;
        switch (type) {
        case NPY_F4:
                u32 = get_le32(p + 4 * i);
                memcpy(&f4, &u32, sizeof f4);
                return (double)f4;
        case NPY_F8:
                u64 = get_le64(p + 8 * i);
                memcpy(&f8, &u64, sizeof f8);
                return f8;
        case NPY_U1:
                return p[i];
        case NPY_I1:
                return (int8_t)p[i];
        case NPY_I2:
                return (int16_t)get_le16(p + 2 * i);
        case NPY_I4:
                return (int32_t)get_le32(p + 4 * i);
        case NPY_I8:
                return (double)(int64_t)get_le64(p + 8 * i);
        case NPY_B1:
                return p[i] <= 1 ? p[i] : (double)NAN; /* not what numpy writes */
        }
        return (double)NAN;
}

static void widen_source(enum npy_type type, const uint8_t *source, uint32_t n, float *out)
{
        if (type == NPY_F4)
                memcpy(out, source, 4 * (size_t)n);
        else if (type == NPY_U1)
                for (uint32_t i = 0; i < n; i++)
                        out[i] = (float)source[i];
        else
                for (uint32_t i = 0; i < n; i++)
                        out[i] = (float)element(type, source, i);
}

static int take_labels(struct ingest *in, const uint8_t *source, struct errinfo *e)
{
        const struct npy *n = in->state;
        const uint32_t features = in->enc->shape.features, targets = in->enc->shape.targets;
        if (!n->labelled)
                return 0;
        if (targets == 0) {
                const double v = element(n->type, source, features);
                if (!(fabs(v) < 9007199254740992.0) || v != trunc(v))
                        return ul_fail_field(e, UL_INVALID, "/label",
                                             "a class must be a whole number");
                return ingest_set_label_number(in, v, e);
        }
        for (uint32_t i = 0; i < targets; i++)
                in->targets[i] = (float)element(n->type, source, features + i);
        return encode_targets(in->enc, in->targets, targets, in->row, e);
}

static int take_id(struct ingest *in, uint64_t number, struct errinfo *e)
{
        char id[ID_BYTES_MAX + 1];
        const int len = snprintf(id, sizeof id, "%s%" PRIu64, in->id_prefix, number);
        assert(len > 0 && len <= ID_BYTES_MAX); /* ingest_create looked at the prefix */
        int err = ingest_set_id(in, id, (size_t)len, e);
        wipe(id, sizeof id);
        return err;
}

static int take_row(struct ingest *in, const uint8_t *source)
{
        const struct npy *n = in->state;
        struct errinfo why = {0};
        const uint64_t line = ++in->lines;
        ingest_row_begin(in);
        int err = take_id(in, line - 1, &why);
        if (err == 0)
                err = take_labels(in, source, &why);
        if (err == 0) {
                widen_source(n->type, source, in->enc->shape.features, in->features);
                err = ingest_set_features(in, &why);
        }
        return err ? ingest_refuse(in, line, &why) : ingest_deliver(in, line);
}

static int feed_rows(struct ingest *in, const uint8_t *data, size_t len, size_t *consumed,
                     struct errinfo *e)
{
        struct npy *n = in->state;
        while (*consumed < len) {
                const size_t left = len - *consumed, need = n->source_bytes - n->partial_len;
                const uint8_t *source = data + *consumed;
                if (in->lines == n->rows)
                        return ul_fail(e, UL_SYNTAX,
                                       "the npy file goes on after its %" PRIu64 " rows", n->rows);
                if (left < need || n->partial_len > 0) {
                        const size_t take = left < need ? left : need;
                        memcpy(n->partial + n->partial_len, source, take);
                        n->partial_len += take;
                        *consumed += take;
                        if (take < need)
                                return 0;
                        source = n->partial;
                } else {
                        *consumed += need;
                }
                int err = take_row(in, source);
                wipe(n->partial, n->partial_len);
                n->partial_len = 0;
                if (err)
                        return err;
        }
        return 0;
}

static int npy_feed(struct ingest *in, const char *data, size_t len, size_t *consumed,
                    struct errinfo *e)
{
        int err = feed_head(in, data, len, consumed, e);
        if (err || *consumed == len)
                return err;
        return feed_rows(in, (const uint8_t *)data, len, consumed, e);
}

static int npy_finish(struct ingest *in, struct errinfo *e)
{
        const struct npy *n = in->state;
        if (!n->ready)
                return ul_fail(e, UL_SYNTAX, "the npy file ends within its header");
        if (in->lines < n->rows)
                return ul_fail(e, UL_SYNTAX,
                               "the npy file ends after %" PRIu64 " of its %" PRIu64 " rows",
                               in->lines, n->rows);
        return 0;
}

static int npy_create(struct ingest *in, struct errinfo *e)
{
        struct npy *n = calloc(1, sizeof *n);
        if (n == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for an upload");
        n->head_need = 10;
        in->state = n;
        return 0;
}

static void npy_destroy(struct ingest *in)
{
        struct npy *n = in->state;
        if (n == NULL)
                return;
        if (n->partial != NULL)
                wipe(n->partial, n->partial_len);
        free(n->partial);
        free(n);
        in->state = NULL;
}

const struct ingest_parser npy_parser = {
        .create = npy_create,
        .feed = npy_feed,
        .finish = npy_finish,
        .destroy = npy_destroy,
};
