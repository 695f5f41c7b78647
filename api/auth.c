/* SPDX-License-Identifier: Apache-2.0
 * auth.c: the tokens file, bearer tokens and their quotas. A token is hashed once and compared with
 * every line in constant time, so that the time of an answer says nothing about which tokens there
 * are. Quotas are fixed windows per token: one counter, no history. */
#include "api/auth.h"
#include "api/http.h"
#include "lib/util/clock.h"
#include "lib/util/crypto.h"
#include "lib/util/file.h"
#include "lib/util/limits.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct token {
        char name[ACTOR_MAX];
        uint32_t scopes;
        uint8_t hash[SHA256_BYTES];
        uint32_t quota, window_s; /* 0: no quota */
        uint64_t window_start_us;
        uint32_t used;
};
struct token_set {
        uint32_t count;
        struct token *tokens;
};
struct auth {
        char path[PATH_SIZE]; /* "": open; set once */
        /* guards the set and its counters; held for less than a microsecond a request */
        pthread_mutex_t lock;
        struct token_set set;
};

/* --- names --- */

static const struct {
        const char *name;
        uint32_t bits;
} scope_names[] = {
        {"ingest", SCOPE_INGEST}, {"predict", SCOPE_PREDICT}, {"erase", SCOPE_ERASE},
        {"audit", SCOPE_AUDIT},   {"admin", SCOPE_ADMIN},
};
enum { SCOPE_COUNT = sizeof scope_names / sizeof scope_names[0] };

uint32_t scope_parse(const char *name, size_t len)
{
        for (size_t i = 0; i < SCOPE_COUNT; i++) {
                if (strlen(scope_names[i].name) == len &&
                    memcmp(scope_names[i].name, name, len) == 0)
                        return scope_names[i].bits;
        }
        return 0;
}

void scopes_describe(uint32_t scopes, char *out, size_t size)
{
        size_t used = 0;
        out[0] = '\0';
        for (size_t i = 0; i < SCOPE_COUNT; i++) {
                if ((scopes & scope_names[i].bits) == 0 && scope_names[i].bits != SCOPE_ADMIN)
                        continue;
                int n = snprintf(out + used, size - used, "%s%s", used != 0 ? " or " : "",
                                 scope_names[i].name);
                if (n < 0 || (size_t)n >= size - used)
                        return;
                used += (size_t)n;
        }
}

static bool name_valid(const char *s, size_t len)
{
        if (len == 0 || len >= ACTOR_MAX)
                return false;
        for (size_t i = 0; i < len; i++) {
                char c = s[i];
                bool letter =
                        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
                if (!letter && (i == 0 || (c != '.' && c != '_' && c != '-')))
                        return false;
        }
        return true;
}

/* --- the file --- */

struct word {
        const char *text;
        size_t len;
};

/* Splits a line at blanks, up to a '#'. Returns the number of words, max + 1 for more. */
static size_t split_line(const char *line, size_t len, struct word *words, size_t max)
{
        size_t count = 0, i = 0;
        for (;;) {
                while (i < len && (line[i] == ' ' || line[i] == '\t' || line[i] == '\r'))
                        i++;
                if (i == len || line[i] == '#')
                        return count;
                if (count == max)
                        return max + 1;
                words[count].text = line + i;
                while (i < len && line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
                        i++;
                words[count].len = (size_t)(line + i - words[count].text);
                count++;
        }
}

static bool parse_number(const char **p, const char *end, uint32_t max, uint32_t *out)
{
        uint64_t v = 0;
        const char *start = *p;
        while (*p < end && **p >= '0' && **p <= '9' && v <= max)
                v = v * 10 + (uint64_t)(*(*p)++ - '0');
        *out = (uint32_t)v;
        return *p > start && v > 0 && v <= max;
}

static bool parse_rate(const struct word *w, struct token *t)
{
        static const char key[] = "rate=";
        if (w->len < sizeof key || memcmp(w->text, key, sizeof key - 1) != 0)
                return false;
        const char *p = w->text + sizeof key - 1, *end = w->text + w->len;
        if (!parse_number(&p, end, RATE_MAX, &t->quota) || p == end || *p != '/')
                return false;
        p++;
        return parse_number(&p, end, RATE_WINDOW_MAX_S, &t->window_s) && p == end;
}

static bool parse_scopes(const struct word *w, struct token *t)
{
        const char *p = w->text, *end = w->text + w->len;
        for (;;) {
                const char *comma = memchr(p, ',', (size_t)(end - p));
                const char *stop = comma != NULL ? comma : end;
                uint32_t bits = scope_parse(p, (size_t)(stop - p));
                if (bits == 0)
                        return false;
                t->scopes |= bits;
                if (comma == NULL)
                        return true;
                p = comma + 1;
        }
}

static int parse_token(const struct word *words, size_t count, unsigned line, struct token *t,
                       struct errinfo *e)
{
        if (count < 3 || count > 4)
                return ul_fail(e, UL_INVALID,
                               "tokens file, line %u: want NAME SCOPE[,SCOPE...] SHA256HEX "
                               "[rate=REQUESTS/SECONDS]",
                               line);
        if (!name_valid(words[0].text, words[0].len))
                return ul_fail(e, UL_INVALID,
                               "tokens file, line %u: a name is up to 63 letters, digits, '.', "
                               "'_' and '-'",
                               line);
        memcpy(t->name, words[0].text, words[0].len);
        if (!parse_scopes(&words[1], t))
                return ul_fail(e, UL_INVALID,
                               "tokens file, line %u: scopes are ingest, predict, erase, audit "
                               "and admin, joined by commas",
                               line);
        if (words[2].len != 2 * SHA256_BYTES ||
            hex_decode(words[2].text, words[2].len, t->hash, SHA256_BYTES) != SHA256_BYTES)
                return ul_fail(e, UL_INVALID,
                               "tokens file, line %u: the third word is the token's SHA-256 in "
                               "64 hexadecimal digits",
                               line);
        if (count == 4 && !parse_rate(&words[3], t))
                return ul_fail(e, UL_INVALID,
                               "tokens file, line %u: want rate=REQUESTS/SECONDS, such as "
                               "rate=100/60",
                               line);
        return 0;
}

static int check_distinct(const struct token_set *set, const struct token *t, unsigned line,
                          struct errinfo *e)
{
        for (uint32_t i = 0; i < set->count; i++) {
                if (equal_ct(set->tokens[i].hash, t->hash, SHA256_BYTES))
                        return ul_fail(e, UL_INVALID,
                                       "tokens file, line %u: this token stands there twice", line);
        }
        return 0;
}

static void token_set_free(struct token_set *set)
{
        free(set->tokens);
        set->tokens = NULL;
        set->count = 0;
}

static int parse_lines(const char *text, size_t len, struct token_set *set, struct errinfo *e)
{
        unsigned line = 0;
        for (size_t at = 0; at < len;) {
                const char *newline = memchr(text + at, '\n', len - at);
                size_t line_len = newline != NULL ? (size_t)(newline - text) - at : len - at;
                struct word words[4];
                size_t count = split_line(text + at, line_len, words, 4);
                line++;
                at += line_len + 1;
                if (count == 0)
                        continue;
                if (set->count == TOKENS_MAX)
                        return ul_fail(e, UL_INVALID, "tokens file: more than %d tokens",
                                       (int)TOKENS_MAX);
                struct token t = {0};
                int err = parse_token(words, count, line, &t, e);
                if (err == 0)
                        err = check_distinct(set, &t, line, e);
                if (err != 0)
                        return err;
                set->tokens[set->count++] = t;
        }
        return 0;
}

static int token_set_read(const char *path, struct token_set *out, struct errinfo *e)
{
        struct buf text = {0};
        struct token_set set = {0};
        int err = read_file(path, TOKENS_FILE_MAX, &text, e);
        if (err != 0)
                goto out;
        set.tokens = calloc(TOKENS_MAX, sizeof set.tokens[0]);
        if (set.tokens == NULL) {
                err = ul_fail(e, UL_NOMEM, "no memory for the tokens");
                goto out;
        }
        err = parse_lines((const char *)text.data, text.len, &set, e);
        if (err == 0 && set.count == 0)
                err = ul_fail(e, UL_INVALID,
                              "tokens file: no token in it, so nobody could call; make one with "
                              "unlearnctl token new");
        if (err != 0)
                goto out;
        *out = set;
        set.tokens = NULL;
out:
        token_set_free(&set);
        buf_free(&text, true);
        return err;
}

/* --- the object --- */

int auth_open(const char *tokens_file, struct auth **out, struct errinfo *e)
{
        *out = NULL;
        struct auth *a = calloc(1, sizeof *a);
        if (a == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the tokens");
        int err = 0;
        if (tokens_file != NULL && tokens_file[0] != '\0') {
                err = path_format(a->path, e, "%s", tokens_file);
                if (err == 0)
                        err = token_set_read(a->path, &a->set, e);
        }
        if (err == 0 && pthread_mutex_init(&a->lock, NULL) != 0) {
                token_set_free(&a->set);
                err = ul_fail(e, UL_INTERNAL, "no mutex for the tokens");
        }
        if (err != 0) {
                free(a);
                return err;
        }
        *out = a;
        return 0;
}

/* A reload does not give a busy token a fresh quota. */
static void carry_over(const struct token_set *from, struct token_set *to)
{
        for (uint32_t i = 0; i < to->count; i++) {
                for (uint32_t k = 0; k < from->count; k++) {
                        if (!equal_ct(from->tokens[k].hash, to->tokens[i].hash, SHA256_BYTES))
                                continue;
                        to->tokens[i].window_start_us = from->tokens[k].window_start_us;
                        to->tokens[i].used = from->tokens[k].used;
                }
        }
}

int auth_reload(struct auth *a, struct errinfo *e)
{
        if (a->path[0] == '\0')
                return 0;
        struct token_set fresh = {0};
        int err = token_set_read(a->path, &fresh, e);
        if (err != 0)
                return err;
        pthread_mutex_lock(&a->lock);
        carry_over(&a->set, &fresh);
        struct token_set old = a->set;
        a->set = fresh;
        pthread_mutex_unlock(&a->lock);
        token_set_free(&old);
        return 0;
}

void auth_close(struct auth **a)
{
        if (*a == NULL)
                return;
        token_set_free(&(*a)->set);
        pthread_mutex_destroy(&(*a)->lock);
        free(*a);
        *a = NULL;
}

bool auth_is_open(const struct auth *a)
{
        return a->path[0] == '\0';
}

/* --- one request --- */

/* "Bearer TOKEN" (RFC 6750): the scheme's case does not matter. NULL: not that. */
static const char *bearer_token(const char *authorization)
{
        static const char scheme[] = "Bearer";
        if (authorization == NULL || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
                return NULL;
        const char *p = authorization + sizeof scheme - 1;
        if (*p != ' ')
                return NULL;
        while (*p == ' ')
                p++;
        return *p != '\0' ? p : NULL;
}

/* Looks at every token whatever it finds: see the file's head. */
static struct token *find_token(struct token_set *set, const uint8_t hash[SHA256_BYTES])
{
        struct token *found = NULL;
        for (uint32_t i = 0; i < set->count; i++) {
                if (equal_ct(set->tokens[i].hash, hash, SHA256_BYTES))
                        found = &set->tokens[i];
        }
        return found;
}

static enum auth_verdict charge(struct token *t, struct auth_result *out)
{
        if (t->quota == 0)
                return AUTH_OK;
        uint64_t now = mono_us(), window_us = (uint64_t)t->window_s * 1000000;
        if (t->used == 0 || now - t->window_start_us >= window_us) {
                t->window_start_us = now;
                t->used = 0;
        }
        uint64_t left_us = window_us - (now - t->window_start_us);
        bool over = t->used >= t->quota;
        if (!over)
                t->used++;
        out->quota = t->quota;
        out->window_s = t->window_s;
        out->remaining = t->quota - t->used;
        out->reset_s = (uint32_t)((left_us + 999999) / 1000000);
        if (out->reset_s == 0)
                out->reset_s = 1;
        return over ? AUTH_OVER_QUOTA : AUTH_OK;
}

enum auth_verdict auth_check(struct auth *a, const char *authorization, struct auth_result *out)
{
        memset(out, 0, sizeof *out);
        if (auth_is_open(a)) {
                memcpy(out->actor, "anonymous", sizeof "anonymous");
                out->scopes = SCOPE_ADMIN;
                return AUTH_OK;
        }
        const char *token = bearer_token(authorization);
        if (token == NULL)
                return AUTH_MISSING;
        uint8_t hash[SHA256_BYTES];
        sha256(token, strlen(token), hash);
        enum auth_verdict verdict = AUTH_UNKNOWN;
        pthread_mutex_lock(&a->lock);
        struct token *t = find_token(&a->set, hash);
        if (t != NULL) {
                memcpy(out->actor, t->name, sizeof out->actor);
                out->scopes = t->scopes;
                verdict = charge(t, out);
        }
        pthread_mutex_unlock(&a->lock);
        return verdict;
}
