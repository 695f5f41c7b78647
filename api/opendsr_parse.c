/* SPDX-License-Identifier: Apache-2.0
 * opendsr_parse.c: see opendsr_parse.h. An identity's value is the subject's id as it was loaded,
 * byte for byte: nothing is trimmed, folded or prefixed, since a hash could not be. */
#include "api/opendsr_parse.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SKEW_MS = 5 * 60 * 1000 }; /* that a controller's clock may be ahead */

const char *const opendsr_identity_types[] = {"controller_customer_id", "email",
                                              "android_advertising_id", "android_id",
                                              "fire_advertising_id",    "ios_advertising_id",
                                              "ios_vendor_id",          "microsoft_advertising_id",
                                              "microsoft_publisher_id", "roku_publisher_id",
                                              "roku_advertising_id",    NULL};

struct members {
        char id[OPENDSR_ID_SIZE];
        char type[16], regulation[16], api_version[16];
        int64_t submitted_ms;
        const struct json *identities, *urls, *extensions;
        bool has_identities, has_urls, has_extensions, has_regulation, has_version;
};
#define MEMBER(m) .offset = offsetof(struct members, m), .size = sizeof(((struct members *)0)->m)
#define SEEN(m) .seen_offset = offsetof(struct members, m)
static const struct json_field member_fields[] = {
        {"subject_request_id", JF_STRING, MEMBER(id), .required = true},
        {"subject_request_type", JF_STRING, MEMBER(type), .required = true},
        {"submitted_time", JF_TIME, MEMBER(submitted_ms), .required = true},
        {"regulation", JF_STRING, MEMBER(regulation), SEEN(has_regulation)},
        {"subject_identities", JF_VALUE, MEMBER(identities), SEEN(has_identities)},
        {"api_version", JF_STRING, MEMBER(api_version), SEEN(has_version)},
        {"status_callback_urls", JF_VALUE, MEMBER(urls), SEEN(has_urls)},
        {"extensions", JF_VALUE, MEMBER(extensions), SEEN(has_extensions)},
};

struct identity {
        char type[32], format[16];
        const struct json *value;
};
#define IDENTITY(m)                                                                                \
        .offset = offsetof(struct identity, m), .size = sizeof(((struct identity *)0)->m)
static const struct json_field identity_fields[] = {
        {"identity_type", JF_STRING, IDENTITY(type), .required = true},
        {"identity_format", JF_STRING, IDENTITY(format), .required = true},
        {"identity_value", JF_VALUE, IDENTITY(value), .required = true},
};

struct extension {
        const struct json *identities, *models;
        bool has_identities, has_models;
};
#define EXT(m) .offset = offsetof(struct extension, m), .size = sizeof(((struct extension *)0)->m)
static const struct json_field extension_fields[] = {
        {"subject_identities", JF_VALUE, EXT(identities),
         .seen_offset = offsetof(struct extension, has_identities)},
        {"models", JF_VALUE, EXT(models), .seen_offset = offsetof(struct extension, has_models)},
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* json_decode, without the names of fields that are not of the specification. */
static int decode(const struct json *object, const struct json_field *fields, size_t n, void *out,
                  const char *prefix, struct errinfo *e)
{
        if (json_type_of(object) == JSON_OBJECT) {
                for (const struct json *m = json_first(object); m != NULL; m = json_next(m)) {
                        size_t i = 0;
                        while (i < n && strcmp(json_key(m), fields[i].name) != 0)
                                i++;
                        if (i == n)
                                return ul_fail_field(e, UL_INVALID, prefix,
                                                     "there is a field that is not of the "
                                                     "specification");
                }
        }
        return json_decode(object, fields, n, out, prefix, e);
}

bool opendsr_id_valid(const char *text)
{
        static const char form[] = "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx";
        if (strlen(text) != sizeof(form) - 1)
                return false;
        for (size_t i = 0; i < sizeof(form) - 1; i++) {
                char c = text[i];
                bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                if (form[i] == 'y'   ? strchr("89ab", c) == NULL
                    : form[i] == 'x' ? !hex
                                     : c != form[i])
                        return false;
        }
        return true;
}

bool opendsr_identity_accepted(const char *identities, const char *type)
{
        size_t len = strlen(type);
        for (const char *p = identities; *p != '\0'; p += *p == ',') {
                size_t n = strcspn(p, ",");
                const char *at = p;
                p += n;
                for (; n > 0 && *at == ' '; at++)
                        n--;
                while (n > 0 && at[n - 1] == ' ')
                        n--;
                if (n == len && strncmp(at, type, n) == 0)
                        return true;
        }
        return false;
}

/* --- identities --- */

static int hash_identity(const struct identity *m, const struct opendsr_reader *r,
                         const char *field, uint8_t out[PSEUDONYM_BYTES], struct errinfo *e)
{
        uint8_t digest[SHA256_BYTES];
        const char *value = json_string(m->value);
        size_t len = value != NULL ? strlen(value) : 0;
        if (value == NULL)
                return ul_fail_field(e, UL_INVALID, field, "identity_value must be a string");
        if (strcmp(m->format, "raw") == 0) {
                if (len == 0 || len > ID_BYTES_MAX)
                        return ul_fail_field(e, UL_INVALID, field,
                                             "identity_value must have 1 to %d bytes",
                                             ID_BYTES_MAX);
                r->pseudonym(r->arg, value, len, out);
                return 0;
        }
        if (strcmp(m->format, "sha256") != 0)
                return ul_fail_field(e, UL_INVALID, field,
                                     "identity_format must be raw or sha256: other hashes find "
                                     "nobody here");
        if (len != 2 * SHA256_BYTES ||
            hex_decode(value, len, digest, sizeof(digest)) != SHA256_BYTES)
                return ul_fail_field(e, UL_INVALID, field,
                                     "identity_value must be the 64 hex digits of a SHA-256");
        r->of_digest(r->arg, digest, out);
        wipe(digest, sizeof(digest));
        return 0;
}

static int read_identity(const struct json *v, const struct opendsr_reader *r, const char *list,
                         uint32_t i, struct erase_request *out, struct errinfo *e)
{
        struct identity m = {0};
        char field[ERRINFO_FIELD_MAX];
        snprintf(field, sizeof(field), "%s/%u", list, i);
        int err = decode(v, identity_fields, COUNT(identity_fields), &m, field, e);
        if (err != 0)
                return err;
        if (!opendsr_identity_accepted(r->identities, m.type))
                return ul_fail_field(e, UL_INVALID, field,
                                     "this identity_type is not supported; see /discovery");
        uint8_t *to = out->subjects[out->subject_count];
        err = hash_identity(&m, r, field, to, e);
        for (uint32_t k = 0; err == 0 && k < out->subject_count; k++)
                if (memcmp(out->subjects[k], to, PSEUDONYM_BYTES) == 0)
                        return 0; /* raw and hashed, or twice */
        out->subject_count += err == 0;
        return err;
}

static int read_identities(const struct json *v, const struct opendsr_reader *r, const char *list,
                           struct erase_request *out, struct errinfo *e)
{
        if (json_type_of(v) != JSON_ARRAY)
                return ul_fail_field(e, UL_INVALID, list, "must be an array");
        size_t n = json_length(v);
        if (n > ERASURE_SUBJECTS_MAX)
                return ul_fail_field(e, UL_INVALID, list, "holds more than %d identities",
                                     ERASURE_SUBJECTS_MAX);
        void *grown = realloc(out->subjects, (out->subject_count + n + 1) * sizeof(*out->subjects));
        if (grown == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the request");
        out->subjects = grown;
        uint32_t i = 0;
        int err = 0;
        for (const struct json *c = json_first(v); c != NULL && err == 0; c = json_next(c), i++)
                err = read_identity(c, r, list, i, out, e);
        if (err == 0 && out->subject_count > ERASURE_SUBJECTS_MAX)
                err = ul_fail_field(e, UL_INVALID, list, "there are more than %d identities",
                                    ERASURE_SUBJECTS_MAX);
        return err;
}

/* --- extensions --- */

static int read_models(const struct json *v, struct erase_request *out, struct errinfo *e)
{
        static const char field[] = "/extensions/models";
        size_t n = json_type_of(v) == JSON_ARRAY ? json_length(v) : 0;
        if (n == 0 || n > ERASURE_MODELS_MAX)
                return ul_fail_field(e, UL_INVALID, field, "must be an array of 1 to %d names",
                                     ERASURE_MODELS_MAX);
        out->models = calloc(n, sizeof(*out->models));
        if (out->models == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the request");
        for (const struct json *c = json_first(v); c != NULL; c = json_next(c)) {
                const char *name = json_string(c);
                if (name == NULL || !model_name_valid(name, strlen(name)))
                        return ul_fail_field(e, UL_INVALID, field, "holds what is no model's name");
                memcpy(out->models[out->model_count++], name, strlen(name) + 1);
        }
        return 0;
}

/* Other processors' extensions are theirs. */
static int read_extensions(const struct json *v, const struct opendsr_reader *r,
                           struct erase_request *out, struct errinfo *e)
{
        struct extension x = {0};
        if (json_type_of(v) == JSON_NULL)
                return 0;
        if (json_type_of(v) != JSON_OBJECT)
                return ul_fail_field(e, UL_INVALID, "/extensions", "must be an object");
        const struct json *ours = json_get(v, r->domain);
        if (ours == NULL)
                return 0;
        int err = decode(ours, extension_fields, COUNT(extension_fields), &x, "/extensions", e);
        if (err == 0 && x.has_identities)
                err = read_identities(x.identities, r, "/extensions/subject_identities", out, e);
        if (err == 0 && x.has_models)
                err = read_models(x.models, out, e);
        return err;
}

static int read_urls(const struct json *v, const struct opendsr_reader *r,
                     struct opendsr_request *out, struct errinfo *e)
{
        static const char list[] = "/status_callback_urls";
        char field[ERRINFO_FIELD_MAX];
        size_t n = json_type_of(v) == JSON_ARRAY ? json_length(v) : 0;
        if (json_type_of(v) == JSON_NULL)
                return 0;
        if (json_type_of(v) != JSON_ARRAY || n > OPENDSR_URLS_MAX)
                return ul_fail_field(e, UL_INVALID, list, "must be an array of at most %d",
                                     OPENDSR_URLS_MAX);
        out->urls = calloc(n + 1, sizeof(*out->urls));
        if (out->urls == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the request");
        for (const struct json *c = json_first(v); c != NULL; c = json_next(c)) {
                const char *url = json_string(c);
                struct errinfo why = {0};
                snprintf(field, sizeof(field), "%s/%u", list, out->url_count);
                if (url == NULL)
                        return ul_fail_field(e, UL_INVALID, field, "must be a string");
                if (r->url_check(r->arg, url, &why) != 0)
                        return ul_fail_field(e, UL_INVALID, field, "%s", why.detail);
                memcpy(out->urls[out->url_count++], url, strlen(url) + 1);
        }
        return 0;
}

/* --- all of it --- */

static int read_head(const struct members *m, const struct opendsr_reader *r,
                     struct erase_request *out, struct errinfo *e)
{
        if (!opendsr_id_valid(m->id))
                return ul_fail_field(e, UL_INVALID, "/subject_request_id",
                                     "must be a lower-case UUID of version 4");
        if (strcmp(m->type, "access") == 0 || strcmp(m->type, "portability") == 0)
                return ul_fail_field(e, UL_INVALID, "/subject_request_type",
                                     "is not supported: this processor takes erasure only");
        if (strcmp(m->type, "erasure") != 0)
                return ul_fail_field(e, UL_INVALID, "/subject_request_type", "must be erasure");
        if (m->submitted_ms <= 0 || m->submitted_ms > r->now_ms + SKEW_MS)
                return ul_fail_field(e, UL_INVALID, "/submitted_time",
                                     "must be a time after 1970 and not of the future");
        if (m->has_version && m->api_version[0] != '1' && m->api_version[0] != '2')
                return ul_fail_field(e, UL_INVALID, "/api_version", "must be 2.0, or 1.0");
        out->regulation = r->regulation;
        if (m->has_regulation && strcmp(m->regulation, "gdpr") == 0)
                out->regulation = ERASE_GDPR;
        else if (m->has_regulation && strcmp(m->regulation, "ccpa") == 0)
                out->regulation = ERASE_CCPA;
        else if (m->has_regulation)
                return ul_fail_field(e, UL_INVALID, "/regulation", "must be gdpr or ccpa");
        out->received_ms = m->submitted_ms < r->now_ms ? m->submitted_ms : r->now_ms;
        memcpy(out->opendsr->id, m->id, sizeof(m->id));
        memcpy(out->reference, m->id, sizeof(m->id)); /* the audit log finds it by that */
        return 0;
}

int opendsr_parse(const struct json *body, const struct opendsr_reader *r,
                  struct erase_request *out, struct errinfo *e)
{
        struct members m = {0};
        *out = (struct erase_request){.opendsr = calloc(1, sizeof(*out->opendsr))};
        if (out->opendsr == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the request");
        int err = decode(body, member_fields, COUNT(member_fields), &m, "", e);
        if (err == 0)
                err = read_head(&m, r, out, e);
        if (err == 0 && m.has_identities)
                err = read_identities(m.identities, r, "/subject_identities", out, e);
        if (err == 0 && m.has_extensions)
                err = read_extensions(m.extensions, r, out, e);
        if (err == 0 && m.has_urls)
                err = read_urls(m.urls, r, out->opendsr, e);
        if (err == 0 && out->subject_count == 0)
                err = ul_fail_field(e, UL_INVALID, "/subject_identities",
                                    "name at least one identity");
        return err;
}
