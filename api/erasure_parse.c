/* SPDX-License-Identifier: Apache-2.0
 * erasure_parse.c: see erasure_parse.h. An id that is named twice is erased once, so that a dry run
 * counts it once too. An empty "models" is refused: it could be read as all of them or as none. */
#include "api/erasure_parse.h"
#include "lib/util/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SKEW_MS = 5 * 60 * 1000 }; /* that a client's clock may be ahead */

struct members {
        const struct json *subjects, *records, *models;
        bool has_subjects, has_records, has_models;
        char regulation[16];
        int64_t received_ms, deadline_ms;
        bool has_received, has_deadline;
        char reference[REFERENCE_MAX + 1];
        bool has_reference;
        bool hold;
        const struct json *callback;
        bool has_callback;
        char idempotency_key[IDEMPOTENCY_KEY_MAX + 1];
        bool has_idempotency_key;
};

#define MEMBER(m) .offset = offsetof(struct members, m), .size = sizeof(((struct members *)0)->m)
#define SEEN(m) .seen_offset = offsetof(struct members, m)
static const struct json_field member_fields[] = {
        {"subjects", JF_VALUE, MEMBER(subjects), SEEN(has_subjects)},
        {"records", JF_VALUE, MEMBER(records), SEEN(has_records)},
        {"models", JF_VALUE, MEMBER(models), SEEN(has_models)},
        {"regulation", JF_STRING, MEMBER(regulation), .min = 1, .max = 15},
        {"received_at", JF_TIME, MEMBER(received_ms), SEEN(has_received)},
        {"deadline", JF_TIME, MEMBER(deadline_ms), SEEN(has_deadline)},
        {"reference", JF_STRING, MEMBER(reference), .min = 1, .max = REFERENCE_MAX,
         SEEN(has_reference)},
        {"hold", JF_BOOL, MEMBER(hold)},
        {"callback_url", JF_VALUE, MEMBER(callback), SEEN(has_callback)},
        /* last: a batch alone knows it */
        {"idempotency_key", JF_STRING, MEMBER(idempotency_key), .min = 1,
         .max = IDEMPOTENCY_KEY_MAX, SEEN(has_idempotency_key)},
};
enum { MEMBER_FIELDS = sizeof(member_fields) / sizeof(member_fields[0]) };

struct record_members {
        char model[MODEL_NAME_MAX + 1];
        const struct json *id;
};
static const struct json_field record_fields[] = {
        {"model", JF_STRING, .offset = offsetof(struct record_members, model),
         .size = MODEL_NAME_MAX + 1, .min = 1, .max = MODEL_NAME_MAX, .required = true},
        {"id", JF_VALUE, .offset = offsetof(struct record_members, id),
         .size = sizeof(const struct json *), .required = true},
};
enum { RECORD_FIELDS = sizeof(record_fields) / sizeof(record_fields[0]) };

static int array_of(const struct json *v, const char *field, uint32_t max, uint32_t *count,
                    struct errinfo *e)
{
        if (json_type_of(v) != JSON_ARRAY)
                return ul_fail_field(e, UL_INVALID, field, "must be an array");
        size_t n = json_length(v);
        if (n > max)
                return ul_fail_field(e, UL_INVALID, field,
                                     "holds more than %u; send several requests", max);
        *count = (uint32_t)n;
        return 0;
}

static int id_of(const struct json *v, const struct erasure_reader *r, const char *field,
                 uint8_t out[PSEUDONYM_BYTES], struct errinfo *e)
{
        const char *id = json_string(v);
        size_t len = id != NULL ? strlen(id) : 0;
        if (id == NULL)
                return ul_fail_field(e, UL_INVALID, field, "must be a string");
        if (len == 0 || len > ID_BYTES_MAX)
                return ul_fail_field(e, UL_INVALID, field, "must have 1 to %d bytes", ID_BYTES_MAX);
        r->pseudonym(r->arg, id, len, out);
        return 0;
}

static int model_of(const char *name, const char *field, char out[MODEL_NAME_MAX + 1],
                    struct errinfo *e)
{
        if (name == NULL || !model_name_valid(name, strlen(name)))
                return ul_fail_field(e, UL_INVALID, field,
                                     "must be a model's name, [a-z0-9][a-z0-9_-]{0,62}");
        memcpy(out, name, strlen(name) + 1);
        return 0;
}

static int by_bytes(const void *a, const void *b, void *size)
{
        return memcmp(a, b, *(const size_t *)size);
}

/* Sorts items of `size` bytes and drops repeated ones; returns how many are left. */
static uint32_t sort_unique(void *items, uint32_t count, size_t size)
{
        uint8_t *p = items;
        uint32_t kept = 0;
        if (count == 0)
                return 0;
        qsort_r(items, count, size, by_bytes, &size);
        for (uint32_t i = 1; i < count; i++) {
                if (memcmp(p + i * size, p + kept * size, size) != 0)
                        memmove(p + ++kept * size, p + i * size, size);
        }
        return kept + 1;
}

static int no_memory(struct errinfo *e)
{
        return ul_fail(e, UL_NOMEM, "no memory for the request");
}

static int read_subjects(const struct json *v, const struct erasure_reader *r,
                         struct erase_request *out, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];
        uint32_t n = 0;
        int err = array_of(v, "/subjects", ERASURE_SUBJECTS_MAX, &n, e);
        if (err != 0 || n == 0)
                return err;
        out->subjects = calloc(n, sizeof(*out->subjects));
        if (out->subjects == NULL)
                return no_memory(e);
        out->subject_count = n;
        uint32_t i = 0;
        for (const struct json *c = json_first(v); c != NULL && err == 0; c = json_next(c), i++) {
                snprintf(field, sizeof(field), "/subjects/%u", i);
                err = id_of(c, r, field, out->subjects[i], e);
        }
        if (err == 0)
                out->subject_count = sort_unique(out->subjects, n, sizeof(*out->subjects));
        return err;
}

static int read_record(const struct json *v, const struct erasure_reader *r, uint32_t i,
                       struct erase_record *out, struct errinfo *e)
{
        struct record_members m = {0};
        char field[ERRINFO_FIELD_MAX];
        snprintf(field, sizeof(field), "/records/%u", i);
        if (json_type_of(v) != JSON_OBJECT)
                return ul_fail_field(e, UL_INVALID, field, "must be an object with model and id");
        int err = json_decode(v, record_fields, RECORD_FIELDS, &m, field, e);
        if (err != 0)
                return err;
        snprintf(field, sizeof(field), "/records/%u/model", i);
        err = model_of(m.model, field, out->model, e);
        if (err != 0)
                return err;
        snprintf(field, sizeof(field), "/records/%u/id", i);
        return id_of(m.id, r, field, out->pseudonym, e);
}

static int read_records(const struct json *v, const struct erasure_reader *r,
                        struct erase_request *out, struct errinfo *e)
{
        uint32_t n = 0;
        int err = array_of(v, "/records", ERASURE_RECORDS_MAX, &n, e);
        if (err != 0 || n == 0)
                return err;
        /* zeroed: whole structs are compared */
        _Static_assert(sizeof(struct erase_record) == MODEL_NAME_MAX + 1 + PSEUDONYM_BYTES,
                       "no padding");
        out->records = calloc(n, sizeof(*out->records));
        if (out->records == NULL)
                return no_memory(e);
        out->record_count = n;
        uint32_t i = 0;
        for (const struct json *c = json_first(v); c != NULL && err == 0; c = json_next(c), i++)
                err = read_record(c, r, i, &out->records[i], e);
        if (err == 0)
                out->record_count = sort_unique(out->records, n, sizeof(*out->records));
        return err;
}

static int read_models(const struct json *v, struct erase_request *out, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];
        uint32_t n = 0;
        int err = array_of(v, "/models", ERASURE_MODELS_MAX, &n, e);
        if (err != 0)
                return err;
        if (n == 0)
                return ul_fail_field(e, UL_INVALID, "/models",
                                     "name at least one model, or leave it out for all of them");
        out->models = calloc(n, sizeof(*out->models));
        if (out->models == NULL)
                return no_memory(e);
        out->model_count = n;
        uint32_t i = 0;
        for (const struct json *c = json_first(v); c != NULL && err == 0; c = json_next(c), i++) {
                snprintf(field, sizeof(field), "/models/%u", i);
                err = model_of(json_string(c), field, out->models[i], e);
        }
        if (err == 0)
                out->model_count = sort_unique(out->models, n, sizeof(*out->models));
        return err;
}

static int read_regulation(const char *text, enum erase_regulation *out, struct errinfo *e)
{
        static const struct {
                const char *name;
                enum erase_regulation value;
        } known[] = {{"", ERASE_NONE},
                     {"gdpr", ERASE_GDPR},
                     {"ccpa", ERASE_CCPA},
                     {"other", ERASE_OTHER}};
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
                if (strcmp(text, known[i].name) == 0) {
                        *out = known[i].value;
                        return 0;
                }
        }
        return ul_fail_field(e, UL_INVALID, "/regulation", "must be one of: gdpr, ccpa, other");
}

/* 0 is the daemon's "not given", so the epoch itself is no time that a request can name. */
static int read_times(const struct members *m, struct erase_request *out, struct errinfo *e)
{
        if (m->has_received && m->received_ms <= 0)
                return ul_fail_field(e, UL_INVALID, "/received_at", "must be after 1970");
        if (m->has_received && m->received_ms > now_ms() + SKEW_MS)
                return ul_fail_field(e, UL_INVALID, "/received_at", "must not be in the future");
        if (m->has_deadline && m->deadline_ms <= 0)
                return ul_fail_field(e, UL_INVALID, "/deadline", "must be after 1970");
        if (m->has_received && m->has_deadline && m->deadline_ms < m->received_ms)
                return ul_fail_field(e, UL_INVALID, "/deadline", "must not be before received_at");
        out->hold = m->hold;
        out->received_ms = m->received_ms;
        out->deadline_ms = m->deadline_ms;
        return 0;
}

bool reference_valid(const char *text, size_t len)
{
        static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                      "0123456789._:/#-";
        return len >= 1 && len <= REFERENCE_MAX && text[len] == '\0' &&
               strspn(text, allowed) == len;
}

static int read_texts(const struct members *m, struct erasure_body *out, struct errinfo *e)
{
        if (m->has_reference && !reference_valid(m->reference, strlen(m->reference)))
                return ul_fail_field(e, UL_INVALID, "/reference",
                                     "must match [A-Za-z0-9._:/#-]{1,64}");
        for (const char *p = m->idempotency_key; *p != '\0'; p++) {
                if (*p < 0x20 || *p > 0x7e)
                        return ul_fail_field(e, UL_INVALID, "/idempotency_key",
                                             "must be printable ASCII");
        }
        memcpy(out->request.reference, m->reference, sizeof(out->request.reference));
        memcpy(out->idempotency_key, m->idempotency_key, sizeof(out->idempotency_key));
        return 0;
}

static int read_callback(const struct json *v, const struct erasure_reader *r,
                         struct erase_request *out, struct errinfo *e)
{
        static const char field[] = "/callback_url";
        const char *url = json_string(v);
        struct errinfo why = {0};
        if (url == NULL)
                return ul_fail_field(e, UL_INVALID, field, "must be a string");
        int err = r->callback != NULL ? r->callback(r->arg, url, &why) : 0;
        if (err == 0 && strlen(url) > URL_MAX)
                err = ul_fail(&why, UL_INVALID, "must have at most %d bytes", URL_MAX);
        if (err != 0)
                return ul_fail_field(e, err, field, "%s", why.detail);
        out->callback_url = strdup(url);
        return out->callback_url != NULL ? 0 : no_memory(e);
}

static int read_members(const struct members *m, const struct erasure_reader *r,
                        struct erasure_body *out, struct errinfo *e)
{
        int err = 0;
        if (m->has_subjects)
                err = read_subjects(m->subjects, r, &out->request, e);
        if (err == 0 && m->has_records)
                err = read_records(m->records, r, &out->request, e);
        if (err == 0 && m->has_models)
                err = read_models(m->models, &out->request, e);
        if (err == 0)
                err = read_regulation(m->regulation, &out->request.regulation, e);
        if (err == 0)
                err = read_times(m, &out->request, e);
        if (err == 0)
                err = read_texts(m, out, e);
        if (err == 0 && m->has_callback)
                err = read_callback(m->callback, r, &out->request, e);
        if (err == 0 && out->request.subject_count + out->request.record_count == 0)
                err = ul_fail_field(e, UL_INVALID, "/subjects",
                                    "name at least one subject or record");
        return err;
}

int erasure_parse(const struct json *body, const struct erasure_reader *r, struct erasure_body *out,
                  struct errinfo *e)
{
        struct members m = {0};
        memset(out, 0, sizeof(*out));
        if (json_type_of(body) != JSON_OBJECT)
                return ul_fail_field(e, UL_INVALID, "", "the request must be a JSON object");
        size_t fields = r->batch ? MEMBER_FIELDS : MEMBER_FIELDS - 1;
        int err = json_decode(body, member_fields, fields, &m, "", e);
        if (err == 0)
                err = read_members(&m, r, out, e);
        if (err != 0)
                erasure_body_clear(out);
        return err;
}

void erasure_body_clear(struct erasure_body *b)
{
        erase_request_clear(&b->request);
        wipe(b, sizeof(*b));
}
