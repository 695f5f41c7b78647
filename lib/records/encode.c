/* SPDX-License-Identifier: Apache-2.0
 * encode.c: from what clients write to what a row holds. Text goes through a fixed, public hash:
 * FNV-1a 64 of the bytes, finished with MurmurHash3's fmix64, spread over the buckets by
 * multiply-and-shift. It is not keyed: training must be reproducible from the configuration alone,
 * and a bucket is a feature, not a secret. It must not know where rows go, nor say in an error what
 * a value was: values are personal data. */
#include "lib/records/encode.h"

#include "lib/records/ingest_private.h"
#include "lib/util/bytes.h"
#include "lib/util/limits.h"
#include "lib/util/number.h"
#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const uint64_t fnv_offset = 0xcbf29ce484222325u;
static const uint64_t fnv_prime = 0x100000001b3u;

/* --- text --- */

static uint64_t fnv1a(uint64_t hash, uint8_t byte)
{
        return (hash ^ byte) * fnv_prime;
}

/* FNV's high bits mix poorly over short words, and the bucket is taken from them. */
static uint64_t fmix64(uint64_t h)
{
        h ^= h >> 33;
        h *= 0xff51afd7ed558ccdu;
        h ^= h >> 33;
        h *= 0xc4ceb9fe1a85ec53u;
        return h ^ (h >> 33);
}

static void count_gram(uint64_t hash, uint32_t features, float *out)
{
        const uint64_t bucket = ((fmix64(hash) >> 32) * features) >> 32;
        if (out[bucket] < 255.0f)
                out[bucket] += 1.0f;
}

/* The byte of a word in lower case, or 0 for what separates words. */
static uint8_t word_byte(uint8_t c)
{
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c > 127)
                return c;
        if (c >= 'A' && c <= 'Z')
                return (uint8_t)(c + ('a' - 'A'));
        return 0;
}

void encode_text(const char *text, size_t len, uint32_t features, float *out)
{
        assert(features > 0);
        memset(out, 0, features * sizeof *out);
        bool have_last = false;
        uint64_t last = 0; /* hash of the word before this one */
        for (size_t i = 0; i < len;) {
                uint8_t c = word_byte((uint8_t)text[i]);
                if (c == 0) {
                        i++;
                        continue;
                }
                /* A 2-gram is "first second": a space cannot be part of a word. */
                uint64_t one = fnv_offset, two = fnv1a(last, ' ');
                for (; i < len && (c = word_byte((uint8_t)text[i])) != 0; i++) {
                        one = fnv1a(one, c);
                        two = fnv1a(two, c);
                }
                count_gram(one, features, out);
                if (have_last)
                        count_gram(two, features, out);
                last = one;
                have_last = true;
        }
}

/* The text comes from the world and may hold a NUL; the name does not. */
static bool same_text(const char *name, const char *text, size_t len)
{
        return strnlen(name, len + 1) == len && memcmp(name, text, len) == 0;
}

/* --- tabular --- */

char *column_pointer(const char *name, char out[ERRINFO_FIELD_MAX])
{
        static const char head[] = "/columns/";
        size_t n = sizeof head - 1;
        memcpy(out, head, n);
        for (; *name != '\0' && n + 3 <= ERRINFO_FIELD_MAX; name++) {
                if (*name == '~' || *name == '/') { /* RFC 6901 */
                        out[n++] = '~';
                        out[n++] = *name == '~' ? '0' : '1';
                } else {
                        out[n++] = *name;
                }
        }
        out[n] = '\0';
        return out;
}

bool parse_field_f32(const char *text, size_t len, float *out)
{
        while (len > 0 && (*text == ' ' || *text == '\t')) {
                text++;
                len--;
        }
        while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
                len--;
        return len > 0 && parse_f32(text, len, out) == len;
}

int encode_number_column(const struct encoding *enc, uint32_t column, float value, float *features,
                         struct errinfo *e)
{
        const struct encoding_column *c = &enc->columns[column];
        char field[ERRINFO_FIELD_MAX];
        assert(!c->categorical);
        if (!isfinite(value))
                return ul_fail_field(e, UL_INVALID, column_pointer(c->name, field),
                                     "a numeric column needs a finite number");
        features[c->first_feature] = value;
        return 0;
}

int encode_column(const struct encoding *enc, uint32_t column, const char *text, size_t len,
                  float *features, struct errinfo *e)
{
        assert(column < enc->column_count);
        const struct encoding_column *c = &enc->columns[column];
        if (!c->categorical) {
                float value;
                if (text == NULL || !parse_field_f32(text, len, &value))
                        value = NAN;
                return encode_number_column(enc, column, value, features, e);
        }
        float *hot = features + c->first_feature; /* [value_count + 1], the last one "other" */
        uint32_t v = 0;
        if (text == NULL)
                v = c->value_count;
        while (v < c->value_count && !same_text(c->values[v], text, len))
                v++;
        memset(hot, 0, (c->value_count + 1) * sizeof *hot);
        hot[v] = 1.0f;
        return 0;
}

/* --- features to the row's dtype --- */

static int refuse_feature(uint32_t i, const char *want, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];
        (void)snprintf(field, sizeof field, "/features/%u", i);
        return ul_fail_field(e, UL_INVALID, field, "%s", want);
}

static int encode_f32(const float *x, uint32_t n, uint8_t *out, struct errinfo *e)
{
        uint32_t bad = 0;
        for (uint32_t i = 0; i < n; i++)
                bad |= (uint32_t) !(fabsf(x[i]) <= FLT_MAX);
        for (uint32_t i = 0; bad && i < n; i++)
                if (!isfinite(x[i]))
                        return refuse_feature(i, "a feature must be a finite number", e);
        memcpy(out, x, n * sizeof *x);
        return 0;
}

/* Whether all of x is within 0..max and whole; NaN compares false. */
static uint32_t first_not_whole(const float *x, uint32_t n, float max)
{
        uint32_t i = 0;
        while (i < n && x[i] >= 0.0f && x[i] <= max && x[i] == (float)(int32_t)x[i])
                i++;
        return i;
}

static int encode_u8(const float *x, uint32_t n, uint8_t *out, struct errinfo *e)
{
        const uint32_t bad = first_not_whole(x, n, 255.0f);
        if (bad < n)
                return refuse_feature(bad, "a feature of dtype u8 is an integer 0..255", e);
        for (uint32_t i = 0; i < n; i++)
                out[i] = (uint8_t)(int32_t)x[i];
        return 0;
}

static int encode_bit(const float *x, uint32_t n, uint8_t *out, struct errinfo *e)
{
        const uint32_t bad = first_not_whole(x, n, 1.0f);
        if (bad < n)
                return refuse_feature(bad, "a feature of dtype bit is 0 or 1", e);
        for (uint32_t i = 0; i < n; i++)
                out[i / 8] = (uint8_t)(out[i / 8] | ((x[i] != 0.0f ? 1u : 0u) << (i % 8)));
        return 0;
}

int encode_features(const struct row_shape *shape, const float *features, uint8_t *row,
                    struct errinfo *e)
{
        const uint32_t offset = row_feature_offset(shape);
        uint8_t *out = row + offset;
        memset(out, 0,
               row_bytes(shape) - offset); /* padding, and the unused bits of the last byte */
        if (shape->dtype == 0)
                return encode_f32(features, shape->features, out, e);
        if (shape->dtype == 1)
                return encode_u8(features, shape->features, out, e);
        return encode_bit(features, shape->features, out, e);
}

/* --- labels --- */

int encode_label_text(const struct encoding *enc, const char *text, size_t len, uint8_t *row,
                      struct errinfo *e)
{
        assert(enc->classes > 0 && enc->shape.targets == 0);
        for (uint32_t i = 0; i < enc->classes; i++) {
                if (same_text(enc->labels[i], text, len)) {
                        put_le32(row + ROW_LABEL_OFFSET, i);
                        return 0;
                }
        }
        return ul_fail_field(e, UL_INVALID, "/label", "not one of the model's %u labels",
                             enc->classes);
}

int encode_targets(const struct encoding *enc, const float *targets, uint32_t n, uint8_t *row,
                   struct errinfo *e)
{
        assert(enc->classes == 0 && enc->shape.targets > 0);
        if (n != enc->shape.targets)
                return ul_fail_field(e, UL_INVALID, "/label", "the model has %u targets, not %u",
                                     enc->shape.targets, n);
        for (uint32_t i = 0; i < n; i++)
                if (!isfinite(targets[i]))
                        return ul_fail_field(e, UL_INVALID, "/label",
                                             "a target must be a finite number");
        memcpy(row + ROW_LABEL_OFFSET, targets, n * sizeof *targets);
        return 0;
}
