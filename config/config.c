/* SPDX-License-Identifier: Apache-2.0
 * config.c: see config.h. A default is text, read by the same setter as the file's, so that what
 * is documented is what is used. An empty value means the default. */
#include "config/config.h"

#include "config/options.h"
#include "lib/util/bytes.h"
#include "lib/util/network.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
        CONFIG_FILE_MAX = 256 * 1024, /* the documented file is some 10 KiB */
        CONFIG_LINE_MAX = 4096,       /* a webhook's address may be long */
        NAME_MAX_BYTES = 64,          /* a section or option name */
        WORKERS_DEFAULT_MAX = 8,      /* past it, ask */
        RETENTION_MONTHS_MIN = 24,    /* 11 CCR 7101(a) */
};

/* --- finding options, and the nearest one to a misspelt name --- */

static const struct option_spec *find(const char *section, const char *name)
{
        for (size_t i = 0; i < config_option_count; i++) {
                const struct option_spec *o = &config_options[i];
                if (strcmp(o->name, name) == 0 &&
                    (section == NULL || strcmp(o->section, section) == 0))
                        return o;
        }
        return NULL;
}

static size_t min3(size_t a, size_t b, size_t c)
{
        size_t m = a < b ? a : b;
        return m < c ? m : c;
}

/* Levenshtein's distance over the first NAME_MAX_BYTES bytes. */
static size_t distance(const char *a, const char *b)
{
        size_t row[NAME_MAX_BYTES + 1];
        size_t la = strnlen(a, NAME_MAX_BYTES), lb = strnlen(b, NAME_MAX_BYTES);
        for (size_t j = 0; j <= lb; j++)
                row[j] = j;
        for (size_t i = 1; i <= la; i++) {
                size_t diagonal = row[0];
                row[0] = i;
                for (size_t j = 1; j <= lb; j++) {
                        size_t cost = diagonal + (a[i - 1] != b[j - 1]);
                        diagonal = row[j];
                        row[j] = min3(cost, row[j] + 1, row[j - 1] + 1);
                }
        }
        return row[lb];
}

static const struct option_spec *nearest(const char *name)
{
        const struct option_spec *best = NULL;
        size_t best_distance = SIZE_MAX;
        for (size_t i = 0; i < config_option_count; i++) {
                size_t d = distance(name, config_options[i].name);
                if (d < best_distance) {
                        best_distance = d;
                        best = &config_options[i];
                }
        }
        /* a suggestion that shares less than half of the name confuses */
        return best_distance * 2 <= strnlen(name, NAME_MAX_BYTES) ? best : NULL;
}

static int fail_unknown(const char *section, const char *name, struct errinfo *e)
{
        const struct option_spec *o = find(NULL, name);
        if (o != NULL)
                return ul_fail(e, UL_INVALID, "option '%.64s' belongs to section [%s], not [%.64s]",
                               name, o->section, section);
        o = nearest(name);
        if (o != NULL)
                return ul_fail(e, UL_INVALID,
                               "unknown option '%.64s' in [%.64s]; did you mean '%s' in [%s]?",
                               name, section, o->name, o->section);
        return ul_fail(
                e, UL_INVALID,
                "unknown option '%.64s' in [%.64s]; `unlearnd --print-config` lists them all", name,
                section);
}

/* --- one value --- */

static int fail_value(const struct option_spec *o, struct errinfo *e, const char *wanted)
{
        char field[ERRINFO_FIELD_MAX];
        (void)snprintf(field, sizeof field, "%s.%s", o->section, o->name);
        return ul_fail_field(e, UL_INVALID, field, "%s must be %s", o->name, wanted);
}

/* Digits, then K, M, G or T where `suffixes`. */
static bool parse_number(const char *text, bool suffixes, uint64_t *out)
{
        static const char letters[] = "KMGT";
        char *end = NULL;
        if (text[0] < '0' || text[0] > '9')
                return false;
        errno = 0;
        unsigned long long v = strtoull(text, &end, 10);
        if (errno != 0)
                return false;
        if (suffixes && *end != '\0') {
                const char *at = strchr(letters, *end >= 'a' ? *end - 'a' + 'A' : *end);
                if (at == NULL)
                        return false;
                unsigned shift = 10 * (unsigned)(at - letters + 1);
                if (v > UINT64_MAX >> shift)
                        return false;
                v <<= shift;
                end++;
        }
        *out = v;
        return *end == '\0';
}

static int set_number(const struct option_spec *o, void *at, const char *value, struct errinfo *e)
{
        uint64_t v = 0;
        char wanted[ERRINFO_DETAIL_MAX];
        if (!parse_number(value, o->type == OPTION_BYTES, &v) || v < o->min || v > o->max) {
                if (o->type == OPTION_BYTES)
                        (void)snprintf(wanted, sizeof wanted,
                                       "a number of bytes of at least %llu, such as %s (K, M, G, T "
                                       "count in 1024s)",
                                       (unsigned long long)o->min, o->value);
                else
                        (void)snprintf(wanted, sizeof wanted, "a whole number from %llu to %llu",
                                       (unsigned long long)o->min, (unsigned long long)o->max);
                return fail_value(o, e, wanted);
        }
        if (o->type == OPTION_BYTES)
                memcpy(at, &v, sizeof v);
        else
                memcpy(at, &(uint32_t){(uint32_t)v}, sizeof(uint32_t));
        return 0;
}

static int set_bool(const struct option_spec *o, void *at, const char *value, struct errinfo *e)
{
        static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
                if (strcasecmp(value, words[i]) == 0) {
                        memcpy(at, &(bool){i % 2 == 1}, sizeof(bool));
                        return 0;
                }
        }
        return fail_value(o, e, "true or false");
}

static bool is_choice(const char *choices, const char *value)
{
        size_t len = strlen(value);
        for (const char *p = choices; p != NULL; p = strchr(p, '|')) {
                p += *p == '|';
                if (len == strcspn(p, "|") && strncmp(p, value, len) == 0)
                        return true;
        }
        return false;
}

static int set_text(const struct option_spec *o, char *at, const char *value, struct errinfo *e)
{
        char wanted[ERRINFO_DETAIL_MAX];
        size_t len = strlen(value);
        if (o->type == OPTION_CHOICE && !is_choice(o->choices, value)) {
                (void)snprintf(wanted, sizeof wanted, "one of %s", o->choices);
                return fail_value(o, e, wanted);
        }
        for (size_t i = 0; i < len; i++)
                if ((unsigned char)value[i] < ' ' || value[i] == 0x7f)
                        return fail_value(o, e, "free of control characters");
        if (len >= o->size) {
                (void)snprintf(wanted, sizeof wanted, "shorter than %zu bytes", o->size);
                return fail_value(o, e, wanted);
        }
        memcpy(at, value, len + 1);
        return 0;
}

static int set_plain(struct config *c, const struct option_spec *o, const char *value,
                     struct errinfo *e)
{
        void *at = (char *)c + o->offset;
        switch (o->type) {
        case OPTION_TEXT:
        case OPTION_CHOICE:
                return set_text(o, at, value, e);
        case OPTION_BOOL:
                return set_bool(o, at, value, e);
        case OPTION_U32:
        case OPTION_BYTES:
                return set_number(o, at, value, e);
        }
        return ul_fail(e, UL_INTERNAL, "option %s has no type", o->name);
}

/* --- defaults that the machine decides --- */

static uint32_t default_workers(void)
{
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        if (n < 1)
                return 1;
        return n > WORKERS_DEFAULT_MAX ? WORKERS_DEFAULT_MAX : (uint32_t)n;
}

static void default_data_dir(struct config *c)
{
        const char *state = getenv("STATE_DIRECTORY"); /* several are separated by colons */
        size_t len = state != NULL ? strcspn(state, ":") : 0;
        if (len == 0 || len >= sizeof c->data_dir)
                return;
        memcpy(c->data_dir, state, len);
        c->data_dir[len] = '\0';
}

static void default_tokens_file(struct config *c)
{
        const char *credentials = getenv("CREDENTIALS_DIRECTORY");
        struct errinfo ignored;
        if (credentials == NULL || credentials[0] == '\0')
                return;
        if (path_format(c->tokens_file, &ignored, "%s/tokens", credentials) != 0 ||
            access(c->tokens_file, R_OK) != 0)
                c->tokens_file[0] = '\0';
}

static void default_opendsr_key(struct config *c)
{
        const char *credentials = getenv("CREDENTIALS_DIRECTORY");
        struct errinfo ignored;
        if (credentials == NULL || credentials[0] == '\0')
                return;
        if (path_format(c->opendsr_key_file, &ignored, "%s/opendsr.key", credentials) != 0 ||
            access(c->opendsr_key_file, R_OK) != 0)
                c->opendsr_key_file[0] = '\0';
}

static void default_worker_path(struct config *c)
{
        char self[PATH_SIZE];
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        char *slash = NULL;
        if (n > 0) {
                self[n] = '\0';
                slash = strrchr(self, '/');
        }
        if (slash == NULL)
                return; /* config_check says what to do about it */
        *slash = '\0';
        struct errinfo ignored;
        if (path_format(c->worker_path, &ignored, "%s/unlearn-worker", self) == 0 &&
            access(c->worker_path, X_OK) == 0)
                return;
        slash = strrchr(self, '/');
        if (slash != NULL)
                *slash = '\0';
        if (path_format(c->worker_path, &ignored, "%s/libexec/unlearnd/unlearn-worker", self) != 0)
                c->worker_path[0] = '\0';
}

/* What the table's default text leaves to the machine. */
static void resolve(struct config *c, const struct option_spec *o, bool is_default)
{
        if (o->offset == offsetof(struct config, workers) && c->workers == 0)
                c->workers = default_workers();
        if (o->offset == offsetof(struct config, worker_path) && c->worker_path[0] == '\0')
                default_worker_path(c);
        if (o->offset == offsetof(struct config, data_dir) && is_default)
                default_data_dir(c);
        if (o->offset == offsetof(struct config, tokens_file) && is_default)
                default_tokens_file(c);
        if (o->offset == offsetof(struct config, opendsr_key_file) && is_default)
                default_opendsr_key(c);
}

static int set(struct config *c, const struct option_spec *o, const char *value, struct errinfo *e)
{
        bool is_default = value[0] == '\0';
        int err = set_plain(c, o, is_default ? o->value : value, e);
        if (err == 0)
                resolve(c, o, is_default);
        return err;
}

void config_defaults(struct config *c)
{
        memset(c, 0, sizeof *c);
        for (size_t i = 0; i < config_option_count; i++) {
                int err = set(c, &config_options[i], "", NULL);
                assert(err == 0); /* the table's own text */
                (void)err;
        }
}

int config_set(struct config *c, const char *section, const char *name, const char *value,
               struct errinfo *e)
{
        const struct option_spec *o = find(section, name);
        if (o == NULL)
                return fail_unknown(section, name, e);
        return set(c, o, value, e);
}

/* --- the file --- */

struct reading {
        struct config *c;
        bool seen[OPTIONS_MAX];
        struct errinfo e; /* of the first line that failed */
};

/* inih's handler: nonzero is success. Only the first failure is kept, and inih's line is its. */
static int on_option(void *user, const char *section, const char *name, const char *value)
{
        struct reading *r = user;
        if (r->e.code != 0)
                return 1;
        const struct option_spec *o = find(section, name);
        const char *own = NULL;
        const struct section_spec *named = config_section(section, &own);
        if (named != NULL) {
                (void)config_section_set(r->c, named, own, name, value, &r->e);
                return r->e.code == 0;
        }
        if (section[0] == '\0')
                (void)ul_fail(&r->e, UL_INVALID, "option '%.64s' stands before the first [section]",
                              name);
        else if (o == NULL)
                (void)fail_unknown(section, name, &r->e);
        else if (r->seen[o - config_options])
                (void)ul_fail(&r->e, UL_INVALID, "option '%s' is given twice", name);
        else
                (void)set(r->c, o, value, &r->e);
        if (o != NULL)
                r->seen[o - config_options] = true;
        return r->e.code == 0;
}

/* inih would split a line that is too long for it, and stop at a NUL. */
static int check_lines(const struct buf *text, const char *path, struct errinfo *e)
{
        if (text->len == 0)
                return 0;
        const char *p = (const char *)text->data, *end = p + text->len;
        for (unsigned line = 1; p < end; line++) {
                const char *nl = memchr(p, '\n', (size_t)(end - p));
                size_t len = (size_t)((nl != NULL ? nl : end) - p);
                if (len > CONFIG_LINE_MAX)
                        return ul_fail(e, UL_INVALID, "%.120s:%u: the line is longer than %d bytes",
                                       path, line, CONFIG_LINE_MAX);
                if (memchr(p, '\0', len) != NULL)
                        return ul_fail(e, UL_INVALID, "%.120s:%u: not a text file", path, line);
                p += len + 1;
        }
        return 0;
}

int config_read(const char *path, struct config *c, struct errinfo *e)
{
        struct buf text = {0};
        struct reading r = {.c = c};
        int err = read_file(path, CONFIG_FILE_MAX, &text, e);
        if (err == UL_NOT_FOUND)
                err = ul_fail(e, UL_NOT_FOUND,
                              "there is no configuration file %.120s; `unlearnd --print-config` "
                              "writes one",
                              path);
        if (err != 0)
                goto out;
        err = check_lines(&text, path, e);
        if (err != 0)
                goto out;
        buf_append(&text, "", 1);
        if (text.failed) {
                err = ul_fail(e, UL_NOMEM, "no memory to read %.120s", path);
                goto out;
        }
        ini_use_stack = false;
        ini_max_line = ini_initial_alloc = CONFIG_LINE_MAX + 3; /* "\r\n" and a NUL */
        int line = ini_parse_string((const char *)text.data, on_option, &r);
        if (line == 0)
                goto out;
        if (r.e.code == 0)
                (void)ul_fail(&r.e, UL_INVALID, "not a section, an option or a comment");
        err = ul_fail_field(e, UL_INVALID, r.e.field, "%.90s:%d: %.150s", path, line, r.e.detail);
out:
        buf_free(&text, false);
        return err;
}

/* --- the command line --- */

/* ADDR:PORT, [ADDR6]:PORT or ADDR. */
static int set_listen(struct config *c, const char *text, struct errinfo *e)
{
        char host[sizeof c->listen_host];
        const char *port = NULL;
        size_t len = strlen(text);
        if (text[0] == '[') {
                const char *close = strchr(text, ']');
                if (close == NULL || (close[1] != '\0' && close[1] != ':'))
                        goto bad;
                port = close[1] == ':' ? close + 2 : NULL;
                text++;
                len = (size_t)(close - text);
        } else {
                const char *colon = strchr(text, ':');
                if (colon != NULL && strchr(colon + 1, ':') == NULL) { /* two: IPv6 without port */
                        port = colon + 1;
                        len = (size_t)(colon - text);
                }
        }
        if (len == 0 || len >= sizeof host || (port != NULL && port[0] == '\0'))
                goto bad;
        memcpy(host, text, len);
        host[len] = '\0';
        int err = config_set(c, "server", "listen_host", host, e);
        if (err == 0 && port != NULL)
                err = config_set(c, "server", "listen_port", port, e);
        return err;
bad:
        return ul_fail_field(e, UL_INVALID, "server.listen_host",
                             "--listen wants ADDR:PORT, such as 127.0.0.1:8417 or [::1]:8417");
}

static int fail_flag(const char *flag, const char *underscored, struct errinfo *e)
{
        const struct option_spec *o = nearest(underscored);
        char like[NAME_MAX_BYTES] = "";
        if (o == NULL)
                return ul_fail(e, UL_INVALID, "unknown flag --%.64s; see `unlearnd --help`", flag);
        (void)snprintf(like, sizeof like, "%s", o->name);
        for (char *p = like; *p != '\0'; p++)
                if (*p == '_')
                        *p = '-';
        return ul_fail(e, UL_INVALID, "unknown flag --%.64s; did you mean --%s?", flag, like);
}

int config_flag(struct config *c, const char *flag, const char *value, const char *next, bool *used,
                struct errinfo *e)
{
        char name[NAME_MAX_BYTES];
        *used = false;
        (void)snprintf(name, sizeof name, "%s", flag);
        for (char *p = name; *p != '\0'; p++)
                if (*p == '-')
                        *p = '_';
        bool listen = strcmp(name, "listen") == 0;
        const struct option_spec *o = find(NULL, name);
        if ((o == NULL && !listen) || strchr(flag, '_') != NULL)
                return fail_flag(flag, name, e);
        if (value == NULL && !listen && o->type == OPTION_BOOL)
                value = "true";
        if (value == NULL) {
                if (next == NULL)
                        return ul_fail(e, UL_INVALID,
                                       "flag --%s wants a value; see `unlearnd "
                                       "--help`",
                                       flag);
                value = next;
                *used = true;
        }
        return listen ? set_listen(c, value, e) : set(c, o, value, e);
}

/* --- options that depend on each other --- */

bool config_loopback(const char *host)
{
        struct in_addr v4;
        struct in6_addr v6;
        if (strcmp(host, "localhost") == 0)
                return true;
        if (inet_pton(AF_INET, host, &v4) == 1)
                return ntohl(v4.s_addr) >> 24 == 127;
        return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool is_address(const char *host)
{
        unsigned char raw[sizeof(struct in6_addr)];
        return strcmp(host, "localhost") == 0 || inet_pton(AF_INET, host, raw) == 1 ||
               inet_pton(AF_INET6, host, raw) == 1;
}

/* Types are words of the specification: a list of them, or nothing would ever be accepted. */
static int check_opendsr(const struct config *c, struct errinfo *e)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
        size_t len = strlen(c->opendsr_domain);
        if (len == 0)
                return 0;
        if (strspn(c->opendsr_domain, letters) != len)
                return ul_fail_field(e, UL_INVALID, "opendsr.opendsr_domain",
                                     "opendsr_domain must be a domain name in lower case");
        if (c->opendsr_key_file[0] == '\0')
                return ul_fail_field(e, UL_INVALID, "opendsr.opendsr_key_file",
                                     "opendsr_domain is set, and opendsr_key_file is not: answers "
                                     "must be signed");
        if (c->opendsr_certificate_file[0] == '\0')
                return ul_fail_field(e, UL_INVALID, "opendsr.opendsr_certificate_file",
                                     "opendsr_domain is set, and opendsr_certificate_file is not: "
                                     "controllers must be able to verify signatures");
        if (c->opendsr_base_url[0] != '\0' && strncmp(c->opendsr_base_url, "https://", 8) != 0 &&
            strncmp(c->opendsr_base_url, "http://", 7) != 0)
                return ul_fail_field(e, UL_INVALID, "opendsr.opendsr_base_url",
                                     "opendsr_base_url must be an https URL");
        return 0;
}

int config_check(const struct config *c, struct errinfo *e)
{
        int err = check_opendsr(c, e);
        if (err != 0)
                return err;
        if (!is_address(c->listen_host))
                return ul_fail_field(e, UL_INVALID, "server.listen_host",
                                     "listen_host '%s' is not an IPv4 or IPv6 address",
                                     c->listen_host);
        if (!config_loopback(c->listen_host) && c->insecure_no_auth)
                return ul_fail_field(e, UL_INVALID, "server.insecure_no_auth",
                                     "refusing to listen on %s without authentication: remove "
                                     "insecure_no_auth, or listen on 127.0.0.1",
                                     c->listen_host);
        if (!config_loopback(c->listen_host) && c->tokens_file[0] == '\0')
                return ul_fail_field(e, UL_INVALID, "server.tokens_file",
                                     "refusing to listen on %s without tokens: make one with "
                                     "`unlearnctl token new` and set tokens_file, or listen on "
                                     "127.0.0.1",
                                     c->listen_host);
        struct network networks[NETWORKS_MAX];
        uint32_t count;
        if (!networks_parse(c->allow_networks, networks, &count))
                return ul_fail_field(e, UL_INVALID, "outgoing.allow_networks",
                                     "allow_networks must be networks such as 10.1.0.0/16, "
                                     "fd00::/8, at most %d, without bits behind their end",
                                     NETWORKS_MAX);
        err = config_sections_check(c, e);
        if (err != 0)
                return err;
        if (c->retention_months != 0 && c->retention_months < RETENTION_MONTHS_MIN)
                return ul_fail_field(
                        e, UL_INVALID, "audit.retention_months",
                        "retention_months must be 0 (for ever) or at least %d: records "
                        "of requests have to be kept so long",
                        RETENTION_MONTHS_MIN);
        if (c->worker_path[0] == '\0' || access(c->worker_path, X_OK) != 0)
                return ul_fail_field(e, UL_INVALID, "training.worker_path",
                                     "there is no worker program at '%.120s': set worker_path to "
                                     "unlearn-worker",
                                     c->worker_path);
        return 0;
}
