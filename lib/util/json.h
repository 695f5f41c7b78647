/* SPDX-License-Identifier: Apache-2.0
 * json.h: the one JSON reader (the owner of cJSON) and the one JSON writer.
 * The reader refuses what cJSON lets pass: trailing bytes, depth over JSON_DEPTH_MAX, duplicate
 * keys, invalid UTF-8, NUL in strings. The table-driven decoder refuses unknown fields by name. */
#ifndef UNLEARND_UTIL_JSON_H
#define UNLEARND_UTIL_JSON_H

#include "lib/util/bytes.h"
#include "lib/util/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json; /* a parsed value; children are borrowed from their document */

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* Parses exactly one value. UL_SYNTAX with the byte offset in the detail (never the text). */
int json_parse(const char *text, size_t len, struct json **out, struct errinfo *e);
/* Overwrites every string and number of the document before freeing it; nulls the pointer. */
void json_free(struct json **doc);

enum json_type json_type_of(const struct json *v);
const char *json_type_name(enum json_type t);
const struct json *json_get(const struct json *object, const char *key); /* NULL: absent */
size_t json_length(const struct json *array_or_object);
const struct json *json_first(const struct json *array_or_object); /* NULL: empty */
const struct json *json_next(const struct json *child);            /* NULL: last */
const char *json_key(const struct json *child);                    /* of an object's member */
const char *json_string(const struct json *v);                     /* NULL unless a string */
double json_number(const struct json *v);                          /* NaN unless a number */
bool json_is_true(const struct json *v);
/* An integer exactly representable in a double and within [min, max]. */
bool json_integer(const struct json *v, int64_t min, int64_t max, int64_t *out);

/* Table-driven decoding of one object into a struct. */
enum json_field_type {
        JF_STRING, /* char[size] inside the struct; min..max bytes (max defaults to size - 1) */
        JF_U32,    /* min..max */
        JF_U64,
        JF_I64,
        JF_DOUBLE, /* finite, min..max */
        JF_BOOL,
        JF_TIME,  /* RFC 3339 into int64_t ms */
        JF_VALUE, /* const struct json * (borrowed), any type */
};
struct json_field {
        const char *name;
        enum json_field_type type;
        size_t offset;   /* offsetof(struct, member) */
        size_t size;     /* JF_STRING: sizeof member */
        double min, max; /* both 0: the type's own range */
        bool required;
        size_t seen_offset; /* offsetof a bool set when present; 0: not recorded */
};
/* Decodes `object` into `out` (whose defaults stay where a field is absent). UL_INVALID with
 * field = prefix + "/name" for a wrong type, range, missing or unknown field. */
int json_decode(const struct json *object, const struct json_field *fields, size_t n, void *out,
                const char *prefix, struct errinfo *e);

/* Writer: appends to a buf; commas are its own business. Nesting at most JSON_DEPTH_MAX. */
enum { JSON_DEPTH_MAX = 32 };
struct json_writer {
        struct buf *out;
        uint32_t depth;
        bool comma[JSON_DEPTH_MAX + 1];
        bool after_key;
};
void jw_init(struct json_writer *w, struct buf *out);
void jw_object(struct json_writer *w);
void jw_end_object(struct json_writer *w);
void jw_array(struct json_writer *w);
void jw_end_array(struct json_writer *w);
void jw_key(struct json_writer *w, const char *key);
void jw_string(struct json_writer *w, const char *s);
void jw_string_n(struct json_writer *w, const char *s, size_t len);
void jw_u64(struct json_writer *w, uint64_t v);
void jw_i64(struct json_writer *w, int64_t v);
void jw_double(struct json_writer *w, double v); /* shortest that reads back the same; NaN: null */
void jw_float(struct json_writer *w, float v);   /* %.9g, shortened where it reads back the same */
void jw_bool(struct json_writer *w, bool v);
void jw_null(struct json_writer *w);
void jw_time(struct json_writer *w, int64_t ms); /* 0: null */
void jw_hex(struct json_writer *w, const void *data, size_t len);
void jw_raw(struct json_writer *w, const char *json, size_t len); /* already valid JSON */
/* A key with its value, as the functions above write it. */
void jw_member_string(struct json_writer *w, const char *key, const char *s);
void jw_member_text(struct json_writer *w, const char *key, const char *s); /* NULL, "": null */
void jw_member_u64(struct json_writer *w, const char *key, uint64_t v);
void jw_member_i64(struct json_writer *w, const char *key, int64_t v);
void jw_member_double(struct json_writer *w, const char *key, double v);
void jw_member_bool(struct json_writer *w, const char *key, bool v);
void jw_member_time(struct json_writer *w, const char *key, int64_t ms);
void jw_member_hex(struct json_writer *w, const char *key, const void *data, size_t len);

#endif
