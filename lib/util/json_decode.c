/* SPDX-License-Identifier: Apache-2.0
 * json_decode.c: an object into a struct by a table of fields. It knows documents only through the
 * functions of json.h. Everything refused is named by its JSON pointer (RFC 6901), and the text
 * says what would be accepted, never what was sent. */
#include "lib/util/clock.h"
#include "lib/util/json.h"
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { POINTER_SIZE = 2 * ERRINFO_FIELD_MAX }; /* ul_fail_field cuts it, between characters */

struct target {
        const struct json_field *field;
        const struct json *value;
        uint8_t *member; /* of the caller's struct */
        const char *prefix;
        struct errinfo *e;
};

static void pointer_of(const char *prefix, const char *name, char out[POINTER_SIZE])
{
        snprintf(out, POINTER_SIZE, "%s/", prefix == NULL ? "" : prefix);
        size_t len = strlen(out);
        for (; *name != '\0' && len + 3 < POINTER_SIZE; name++) {
                if (*name == '~' || *name == '/') {
                        out[len++] = '~';
                        out[len++] = *name == '~' ? '0' : '1';
                } else {
                        out[len++] = *name;
                }
        }
        out[len] = '\0';
}

__attribute__((format(printf, 2, 3))) static int refuse(const struct target *t, const char *format,
                                                        ...)
{
        char pointer[POINTER_SIZE];
        char detail[ERRINFO_DETAIL_MAX];
        va_list args;
        va_start(args, format);
        vsnprintf(detail, sizeof detail, format, args);
        va_end(args);
        pointer_of(t->prefix, t->field->name, pointer);
        return ul_fail_field(t->e, UL_INVALID, pointer, "%s", detail);
}

static int refuse_type(const struct target *t, const char *wanted)
{
        return refuse(t, "must be %s, not %s", wanted, json_type_name(json_type_of(t->value)));
}

/* Is max left to the type? Both 0 says so, and so does a minimum alone. */
static bool open_ended(const struct json_field *f)
{
        return f->max <= 0 && f->min >= 0;
}

static int decode_string(const struct target *t)
{
        const struct json_field *f = t->field;
        const char *s = json_string(t->value);
        assert(f->size > 0 && f->max < (double)f->size && f->min >= 0);
        if (s == NULL)
                return refuse_type(t, "a string");
        size_t min = (size_t)f->min;
        size_t max = f->max > 0 ? (size_t)f->max : f->size - 1;
        size_t len = strlen(s);
        if (len < min || len > max)
                return refuse(t, "must be %zu to %zu bytes long", min, max);
        memset(t->member, 0, f->size); /* nothing of a longer default stays behind */
        memcpy(t->member, s, len);
        return UL_OK;
}

/* An integer of [type_min, type_max], narrowed by the field's own range. */
static int decode_integer(const struct target *t, int64_t type_min, int64_t type_max, int64_t *out)
{
        const struct json_field *f = t->field;
        const int64_t exact = INT64_C(9007199254740991); /* json_integer */
        int64_t min = type_min < -exact ? -exact : type_min;
        int64_t max = type_max > exact ? exact : type_max;
        bool both_zero = f->min >= 0 && f->min <= 0 && open_ended(f);
        if (!both_zero && f->min > (double)min)
                min = (int64_t)f->min;
        if (!open_ended(f) && f->max < (double)max)
                max = (int64_t)f->max;
        if (json_type_of(t->value) != JSON_NUMBER)
                return refuse_type(t, "an integer");
        if (!json_integer(t->value, min, max, out))
                return refuse(t, "must be an integer from %" PRId64 " to %" PRId64, min, max);
        return UL_OK;
}

static int decode_u32(const struct target *t)
{
        int64_t v = 0;
        int r = decode_integer(t, 0, UINT32_MAX, &v);
        if (r == UL_OK) {
                uint32_t narrow = (uint32_t)v;
                memcpy(t->member, &narrow, sizeof narrow);
        }
        return r;
}

static int decode_64(const struct target *t, int64_t type_min)
{
        int64_t v; /* an uint64_t of this range has the same bytes */
        int r = decode_integer(t, type_min, INT64_MAX, &v);
        if (r == UL_OK)
                memcpy(t->member, &v, sizeof v);
        return r;
}

static int decode_double(const struct target *t)
{
        const struct json_field *f = t->field;
        double v = json_number(t->value);
        bool both_zero = f->min >= 0 && f->min <= 0 && open_ended(f);
        if (json_type_of(t->value) != JSON_NUMBER || !isfinite(v))
                return refuse_type(t, "a number");
        if (both_zero)
                goto store;
        if (open_ended(f) && v < f->min)
                return refuse(t, "must be a number of at least %g", f->min);
        if (!open_ended(f) && (v < f->min || v > f->max))
                return refuse(t, "must be a number from %g to %g", f->min, f->max);
store:
        memcpy(t->member, &v, sizeof v);
        return UL_OK;
}

static int decode_bool(const struct target *t)
{
        if (json_type_of(t->value) != JSON_BOOL)
                return refuse_type(t, "true or false");
        bool v = json_is_true(t->value);
        memcpy(t->member, &v, sizeof v);
        return UL_OK;
}

static int decode_time(const struct target *t)
{
        const char *s = json_string(t->value);
        int64_t ms;
        if (s == NULL)
                return refuse_type(t, "a time as a string");
        if (!time_parse(s, strlen(s), &ms))
                return refuse(t, "must be an RFC 3339 time such as 2026-01-31T09:00:00Z");
        memcpy(t->member, &ms, sizeof ms);
        return UL_OK;
}

static int decode_one(const struct target *t)
{
        switch (t->field->type) {
        case JF_STRING:
                return decode_string(t);
        case JF_U32:
                return decode_u32(t);
        case JF_U64:
                return decode_64(t, 0);
        case JF_I64:
                return decode_64(t, INT64_MIN);
        case JF_DOUBLE:
                return decode_double(t);
        case JF_BOOL:
                return decode_bool(t);
        case JF_TIME:
                return decode_time(t);
        case JF_VALUE:
                memcpy(t->member, &t->value, sizeof t->value);
                return UL_OK;
        }
        assert(false); /* the table holds something that is no json_field_type */
        return UL_INTERNAL;
}

static const struct json_field *field_named(const struct json_field *fields, size_t n,
                                            const char *name)
{
        for (size_t i = 0; i < n; i++) {
                if (strcmp(fields[i].name, name) == 0)
                        return &fields[i];
        }
        return NULL;
}

static int decode_member(const struct json *member, const struct json_field *fields, size_t n,
                         uint8_t *out, const char *prefix, struct errinfo *e)
{
        const char *name = json_key(member);
        const struct json_field unknown = {.name = name};
        const struct json_field *field = field_named(fields, n, name);
        struct target t = {.field = field, .value = member, .prefix = prefix, .e = e};
        if (field == NULL) {
                t.field = &unknown;
                return refuse(&t, "is not a known field");
        }
        t.member = out + field->offset;
        int r = decode_one(&t);
        if (r == UL_OK && field->seen_offset != 0) {
                const bool seen = true;
                memcpy(out + field->seen_offset, &seen, sizeof seen);
        }
        return r;
}

int json_decode(const struct json *object, const struct json_field *fields, size_t n, void *out,
                const char *prefix, struct errinfo *e)
{
        if (json_type_of(object) != JSON_OBJECT)
                return ul_fail_field(e, UL_INVALID, prefix == NULL ? "" : prefix,
                                     "must be an object, not %s",
                                     json_type_name(json_type_of(object)));
        for (const struct json *m = json_first(object); m != NULL; m = json_next(m)) {
                int r = decode_member(m, fields, n, out, prefix, e);
                if (r != UL_OK)
                        return r;
        }
        for (size_t i = 0; i < n; i++) {
                struct target t = {.field = &fields[i], .prefix = prefix, .e = e};
                if (fields[i].required && json_get(object, fields[i].name) == NULL)
                        return refuse(&t, "is required");
        }
        return UL_OK;
}
