/* SPDX-License-Identifier: Apache-2.0
 * webhook_secret.c: see webhook_secret.h. Whoever holds them locks: webhook.c. */
#include "daemon/webhook_secret.h"

#include "lib/util/crash_point.h"
#include "lib/util/crypto.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEW_BYTES = 32 };
#define PREFIX "whsec_"
#define UNTIL " until "

void webhook_secret_file(const char *endpoint, char out[SECRET_NAME_MAX])
{
        (void)snprintf(out, SECRET_NAME_MAX, "webhook%s%s.secret", endpoint != NULL ? "-" : "",
                       endpoint != NULL ? endpoint : "");
}

static void write_text(const struct webhook_secret *k, char text[SECRET_TEXT_MAX])
{
        assert(sizeof PREFIX + base64_size(k->len) <= SECRET_TEXT_MAX);
        memcpy(text, PREFIX, sizeof PREFIX);
        base64_encode(k->bytes, k->len, text + sizeof PREFIX - 1);
}

static bool parse_line(const char *line, size_t len, struct webhook_secret *k)
{
        static const char prefix[] = PREFIX, until[] = UNTIL;
        const char *end = memchr(line, ' ', len);
        size_t text = end != NULL ? (size_t)(end - line) : len;
        *k = (struct webhook_secret){0};
        if (text < sizeof prefix - 1 || memcmp(line, prefix, sizeof prefix - 1) != 0)
                return false;
        long n = base64_decode(line + sizeof prefix - 1, text - (sizeof prefix - 1), k->bytes,
                               sizeof k->bytes);
        k->len = n > 0 ? (uint32_t)n : 0;
        if (k->len < SECRET_BYTES_MIN)
                return false;
        if (end == NULL)
                return true;
        size_t rest = len - text;
        return rest > sizeof until - 1 && memcmp(end, until, sizeof until - 1) == 0 &&
               time_parse(end + sizeof until - 1, rest - (sizeof until - 1), &k->until_ms) &&
               k->until_ms > 0; /* 0 would be without end */
}

static int parse(const struct buf *b, struct webhook_secrets *out, struct errinfo *e)
{
        const char *p = (const char *)b->data, *end = b->len > 0 ? p + b->len : p;
        out->count = 0;
        while (p < end) {
                const char *nl = memchr(p, '\n', (size_t)(end - p));
                size_t len = (size_t)((nl != NULL ? nl : end) - p);
                const char *line = p;
                p = nl != NULL ? nl + 1 : end;
                if (len == 0)
                        continue;
                if (out->count == SECRETS_MAX || !parse_line(line, len, &out->all[out->count]))
                        goto bad;
                bool first = out->count == 0;
                if ((out->all[out->count++].until_ms == 0) != first) /* it alone has no end */
                        goto bad;
        }
        if (out->count > 0)
                return 0;
bad:
        return ul_fail(
                e, UL_CORRUPT,
                "%.160s is damaged: it must hold up to %d lines, whsec_ and the base64 of %d "
                "to %d bytes, all but the first with \" until TIME\"; restore it, or remove it for "
                "a new one",
                out->path, SECRETS_MAX, SECRET_BYTES_MIN, SECRET_BYTES_MAX);
}

static int write_secrets(const struct webhook_secrets *s, struct errinfo *e)
{
        struct buf b = {0};
        char text[SECRET_TEXT_MAX], time[RFC3339_SIZE];
        for (uint32_t i = 0; i < s->count; i++) {
                write_text(&s->all[i], text);
                buf_append_str(&b, text);
                if (s->all[i].until_ms != 0)
                        buf_printf(&b, UNTIL "%s", time_format(s->all[i].until_ms, time));
                buf_append_str(&b, "\n");
        }
        int err = b.failed ? ul_fail(e, UL_NOMEM, "no memory for a webhook's secret")
                           : write_file_durably(s->path, b.data, b.len, e);
        buf_free(&b, true);
        wipe(text, sizeof text);
        return err;
}

static void make(struct webhook_secret *k)
{
        *k = (struct webhook_secret){.len = NEW_BYTES};
        random_bytes(k->bytes, NEW_BYTES);
}

int webhook_secrets_open(const char *data_dir, const char *file, struct webhook_secrets *out,
                         struct errinfo *e)
{
        const char *credentials = getenv("CREDENTIALS_DIRECTORY");
        struct buf b = {0};
        int err = 0;
        *out = (struct webhook_secrets){0};
        if (credentials != NULL) {
                err = path_format(out->path, e, "%s/%s", credentials, file);
                out->from_credential = err == 0 && file_exists(out->path);
        }
        if (err == 0 && !out->from_credential)
                err = path_format(out->path, e, "%s/keys/%s", data_dir, file);
        if (err == 0 && !file_exists(out->path)) {
                out->count = 1;
                make(&out->all[0]);
                err = write_secrets(out, e);
                CRASH_POINT("webhook.secret_made");
                return err;
        }
        if (err == 0)
                err = read_file(out->path, SECRET_FILE_MAX, &b, e);
        if (err == 0)
                err = parse(&b, out, e);
        buf_free(&b, true);
        return err;
}

int webhook_secrets_rotate(struct webhook_secrets *s, int64_t overlap_ms, int64_t now,
                           char text[SECRET_TEXT_MAX], struct errinfo *e)
{
        struct webhook_secrets next = {.count = 1};
        if (s->from_credential)
                return ul_fail(e, UL_CONFLICT,
                               "this secret is a credential of the service manager's: put another "
                               "line into it there");
        memcpy(next.path, s->path, sizeof next.path);
        make(&next.all[0]);
        for (uint32_t i = 0; i < s->count && next.count < SECRETS_MAX; i++) {
                struct webhook_secret old = s->all[i];
                if (old.until_ms == 0 || old.until_ms > now + overlap_ms)
                        old.until_ms = now + overlap_ms;
                if (old.until_ms > now)
                        next.all[next.count++] = old;
                wipe(&old, sizeof old);
        }
        int err = write_secrets(&next, e);
        CRASH_POINT("webhook.secret_rotated");
        if (err == 0) {
                write_text(&next.all[0], text);
                *s = next;
        }
        webhook_secrets_wipe(&next);
        return err;
}

void webhook_secrets_wipe(struct webhook_secrets *s)
{
        wipe(s->all, sizeof s->all);
        s->count = 0;
}

void webhook_sign(const struct webhook_secrets *s, int64_t now, const char *id, int64_t timestamp_s,
                  const void *body, size_t body_len, struct buf *out)
{
        char head[128], text[64];
        uint8_t mac[SHA256_BYTES];
        const char *space = "";
        int n = snprintf(head, sizeof head, "%s.%" PRId64 ".", id, timestamp_s);
        assert(n > 0 && (size_t)n < sizeof head && base64_size(sizeof mac) <= sizeof text);
        for (uint32_t i = 0; i < s->count; i++) {
                const struct webhook_secret *k = &s->all[i];
                struct hmac_state h;
                if (k->until_ms != 0 && k->until_ms <= now)
                        continue;
                hmac_sha256_begin(&h, k->bytes, k->len);
                hmac_sha256_add(&h, head, (size_t)n);
                hmac_sha256_add(&h, body, body_len);
                hmac_sha256_end(&h, mac);
                buf_printf(out, "%sv1,%s", space, base64_encode(mac, sizeof mac, text));
                space = " ";
        }
}
