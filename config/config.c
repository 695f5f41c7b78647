/* SPDX-License-Identifier: Apache-2.0
 * config.c: see config.h. The table is the only place where an option is named; its default is
 * text, read by the same setter as the file's, so that what is documented is what is used. An
 * empty value means the default. It must not know what the options do. */
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
        SEEN_MAX = 64,                /* options of the table, at most */
        RETENTION_MONTHS_MIN = 24,    /* 11 CCR 7101(a) */
};

#define KIB ((uint64_t)1024)
#define GIB (KIB * KIB * KIB)
#define TEXT(member) offsetof(struct config, member), sizeof(((struct config *)0)->member)

const struct option_spec config_options[] = {
        {"server", "data_dir", OPTION_TEXT, TEXT(data_dir), 1, 0, NULL, "/var/lib/unlearnd", "DIR",
         "Where everything is kept: control.mdb, keys/ and models/. Under systemd, "
         "$STATE_DIRECTORY takes the place of the default."},
        {"server", "listen_host", OPTION_TEXT, TEXT(listen_host), 1, 0, NULL, "127.0.0.1", "ADDR",
         "The IPv4 or IPv6 address to listen on. Anything but loopback needs tokens_file; there is "
         "no TLS, so put a proxy that speaks it in front."},
        {"server", "listen_port", OPTION_U32, TEXT(listen_port), 0, 65535, NULL, "8417", "PORT",
         "The TCP port. 0 takes any free one and prints it."},
        {"server", "http_threads", OPTION_U32, TEXT(http_threads), 1, 256, NULL, "2", "N",
         "Threads that speak HTTP. They never compute and never wait for the disk."},
        {"server", "predict_threads", OPTION_U32, TEXT(predict_threads), 1, 256, NULL, "1", "N",
         "Threads that compute predictions."},
        {"server", "connections_max", OPTION_U32, TEXT(connections_max), 1, 1000000, NULL, "10000",
         "N",
         "Connections at a time. A further client takes the place of the connection that has "
         "been idle longest; where all have a request in flight, it waits."},
        {"server", "idle_timeout_s", OPTION_U32, TEXT(idle_timeout_s), 1, 86400, NULL, "60",
         "SECONDS",
         "A connection that moves no byte for this long is closed, and one that has not "
         "sent a whole request header for as long."},
        {"server", "upload_max_bytes", OPTION_BYTES, TEXT(upload_max_bytes), 1, UINT64_MAX, NULL,
         "64G", "BYTES", "The largest upload of records, counted as sent (compressed)."},
        {"server", "infer_max_bytes", OPTION_BYTES, TEXT(infer_max_bytes), 1, 4 * GIB, NULL, "16M",
         "BYTES", "The largest body of a prediction request."},
        {"server", "tokens_file", OPTION_TEXT, TEXT(tokens_file), 0, 0, NULL, "", "FILE",
         "Bearer tokens, one a line, as `unlearnctl token new` prints them. Read again on SIGHUP. "
         "Under systemd, a credential named tokens takes the place of the default. Without tokens "
         "the daemon listens on loopback only and answers everybody there."},
        {"server", "insecure_no_auth", OPTION_BOOL, TEXT(insecure_no_auth), 0, 0, NULL, "false",
         NULL,
         "Answers everybody who can connect, with every right, whatever tokens_file says. For "
         "trying things out; loopback only."},
        {"server", "log_level", OPTION_CHOICE, TEXT(log_level), 0, 0, "error|warn|info|debug",
         "info", "LEVEL", "How much is written to standard error."},
        {"store", "map_bytes", OPTION_BYTES, TEXT(map_bytes), 16 * KIB *KIB, 64 * KIB *GIB, NULL,
         "1T", "BYTES",
         "The most that control.mdb may grow to. The file is sparse and the memory is only "
         "address space, so a large number costs nothing."},
        {"store", "ledger_dir", OPTION_TEXT, TEXT(ledger_dir), 0, 0, NULL, "", "DIR",
         "Where the erasure ledger is kept: every accepted erasure is also written there, as "
         "pseudonyms, before it is answered. Put it on another disk or another machine's file "
         "system than data_dir. When an older backup has been restored, the erasures that came "
         "after it are replayed from the ledger before anybody is served. Empty: no ledger, and a "
         "restored backup brings erased people back. A data directory that has been used with a "
         "ledger does not start without it, unless this says none."},
        {"store", "backup_dir", OPTION_TEXT, TEXT(backup_dir), 0, 0, NULL, "", "DIR",
         "Where `unlearnctl backup` may have the daemon write backups, one directory each. Backups "
         "hold people's data until they are deleted. Empty: backups are refused."},
        {"audit", "origin", OPTION_TEXT, TEXT(origin), 0, 0, NULL, "", "NAME",
         "The name of the audit log in its signed checkpoints, such as example.org/unlearnd. "
         "Empty: unlearnd.local/HOSTNAME, made at the first start and kept. It must not change "
         "once the log has entries."},
        {"audit", "retention_months", OPTION_U32, TEXT(retention_months), 0, 1200, NULL, "0",
         "MONTHS",
         "How long an entry of the audit log is kept: 24 months or more (11 CCR 7101). Older ones "
         "are pruned: their text goes, their hash stays, and every proof and checkpoint holds as "
         "before. 0: for ever."},
        {"audit", "witness_interval_ms", OPTION_U32, TEXT(witness_interval_ms), 10, 86400000, NULL,
         "60000", "MS",
         "How often the newest checkpoint is offered to the witnesses (see [witness NAME]) that "
         "have not cosigned it. One that fails is left alone for longer, up to an hour."},
        {"opendsr", "opendsr_domain", OPTION_TEXT, TEXT(opendsr_domain), 0, 0, NULL, "", "NAME",
         "The domain under which controllers reach this processor, and which its certificate is "
         "issued for. Empty: OpenDSR is not spoken."},
        {"opendsr", "opendsr_base_url", OPTION_TEXT, TEXT(opendsr_base_url), 0, 0, NULL, "", "URL",
         "Where controllers find /discovery, as the proxy in front serves it. Empty: "
         "https://DOMAIN/opendsr/v2."},
        {"opendsr", "opendsr_key_file", OPTION_TEXT, TEXT(opendsr_key_file), 0, 0, NULL, "", "FILE",
         "The RSA private key that signs answers and callbacks (PEM, 2048 to 8192 bits). Under "
         "systemd, a credential named opendsr.key takes the place of the default."},
        {"opendsr", "opendsr_certificate_file", OPTION_TEXT, TEXT(opendsr_certificate_file), 0, 0,
         NULL, "", "FILE",
         "Its X.509 certificate (PEM), which controllers download. It may be followed by those of "
         "its issuers."},
        {"opendsr", "opendsr_identities", OPTION_TEXT, TEXT(opendsr_identities), 0, 0, NULL,
         "controller_customer_id,email", "TYPES",
         "The identity types whose values are subjects of the records that were loaded, separated "
         "by commas. Requests that name others are refused."},
        {"opendsr", "opendsr_regulation", OPTION_CHOICE, TEXT(opendsr_regulation), 0, 0,
         "gdpr|ccpa", "gdpr", "NAME", "The regulation of a request that names none."},
        {"opendsr", "opendsr_hold", OPTION_BOOL, TEXT(opendsr_hold), 0, 0, NULL, "false", NULL,
         "Holds every request (pending) until `unlearnctl erasure release` or its refusal. Without "
         "it a request is executed at once."},
        {"training", "workers", OPTION_U32, TEXT(workers), 0, 1024, NULL, "0", "N",
         "Shards trained at a time, each by a process of its own at idle priority. 0: as many as "
         "there are processors, at most 8."},
        {"training", "worker_memory_bytes", OPTION_BYTES, TEXT(worker_memory_bytes), 0, UINT64_MAX,
         NULL, "4G", "BYTES", "Address space of one worker (RLIMIT_AS). 0: no limit."},
        {"training", "worker_seconds", OPTION_U32, TEXT(worker_seconds), 0, 31536000, NULL, "3600",
         "SECONDS",
         "A worker that runs for longer is killed and its job tried again. 0: no "
         "limit."},
        {"training", "gather_window_ms", OPTION_U32, TEXT(gather_window_ms), 0, 86400000, NULL,
         "200", "MS",
         "How long a shard waits for further erasures before it is retrained once for all of "
         "them. Forgetting never waits for it."},
        {"training", "retry_first_ms", OPTION_U32, TEXT(retry_first_ms), 1, 300000, NULL, "1000",
         "MS", "The pause after a failed job; doubled for each failure, to 5 minutes."},
        {"training", "worker_path", OPTION_TEXT, TEXT(worker_path), 0, 0, NULL, "", "FILE",
         "The worker program. Empty: unlearn-worker beside unlearnd, else "
         "../libexec/unlearnd/unlearn-worker from there."},
        {"training", "blas_kernel", OPTION_TEXT, TEXT(blas_kernel), 0, 0, NULL, "", "NAME",
         "The OpenBLAS kernel that workers must run under (such as Haswell), for clusters of "
         "mixed machines: other kernels give other last bits. Empty: what OpenBLAS picks, "
         "pinned at the first training. OPENBLAS_CORETYPE in the environment goes before it: a "
         "worker told of two refuses the job."},
        {"outgoing", "allow_networks", OPTION_TEXT, TEXT(allow_networks), 0, 0, NULL, "",
         "NETWORKS",
         "Networks beside the public Internet that may be spoken to, such as 10.1.0.0/16, "
         "fd00::/8, separated by commas. The address that is connected to counts, not the name. "
         "Plain http is for these networks alone. Empty: loopback, link-local and private "
         "addresses are refused, and so is http."},
        {"outgoing", "ca_file", OPTION_TEXT, TEXT(ca_file), 0, 0, NULL, "", "FILE",
         "Certificates (PEM) of the authorities that are trusted. Empty: the system's."},
        {"outgoing", "delivery_timeout_ms", OPTION_U32, TEXT(delivery_timeout_ms), 100, 120000,
         NULL, "15000", "MS", "How long one attempt may take, from the name to the answer's end."},
        {"outgoing", "delivery_retry_ms", OPTION_U32, TEXT(delivery_retry_ms), 1, 3600000, NULL,
         "5000", "MS",
         "The pause after a first failure; four times as long after each further one, to 12 "
         "hours, and never shorter than the receiver's Retry-After."},
        {"outgoing", "delivery_give_up_s", OPTION_U32, TEXT(delivery_give_up_s), 1, 31536000, NULL,
         "259200", "SECONDS",
         "A delivery that would be older than this at its next attempt is given up, with an audit "
         "entry. 259200 is three days."},
        {"outgoing", "hold_outgoing", OPTION_BOOL, TEXT(hold_outgoing), 0, 0, NULL, "false", NULL,
         "Sends nothing: deliveries wait in their queue and no witness is asked. For a drill on a "
         "restored backup, which would speak in the name of the real daemon."},
};
const size_t config_option_count = sizeof config_options / sizeof config_options[0];
_Static_assert(sizeof config_options / sizeof config_options[0] <= SEEN_MAX, "raise SEEN_MAX");

const char *config_section_help(const char *section)
{
        static const char *const about[][2] = {
                {"server", "The data directory, the address and the limits of HTTP."},
                {"store", "The database of bookkeeping (never of records)."},
                {"audit", "The append-only log that auditors check."},
                {"opendsr", "Requests of controllers that speak OpenDSR 2.0; see docs/opendsr.md."},
                {"training", "The worker processes that train and retrain."},
                {"outgoing", "What the daemon sends to others: webhooks, callbacks, checkpoints."},
        };
        for (size_t i = 0; i < sizeof about / sizeof about[0]; i++)
                if (strcmp(about[i][0], section) == 0)
                        return about[i][1];
        return "";
}

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
        bool seen[SEEN_MAX];
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
