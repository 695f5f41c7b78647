/* SPDX-License-Identifier: Apache-2.0
 * config.h: every option of the daemon, in one table that feeds the parser, --help, the man page
 * and the documented unlearnd.conf (config/unlearnd.conf is checked against it). inih reads the
 * file. */
#ifndef UNLEARND_CONFIG_CONFIG_H
#define UNLEARND_CONFIG_CONFIG_H

#include "lib/util/err.h"
#include "lib/util/file.h"
#include "lib/util/limits.h"
#include <stdbool.h>
#include <stdint.h>

enum { SECTION_NAME_MAX = 32 };
enum { WEBHOOK_NAME_MAX = SECTION_NAME_MAX, WEBHOOK_EVENTS_MAX = 512, WEBHOOKS_MAX = 16 };
struct webhook_config {                  /* a section [webhook NAME] */
        char name[WEBHOOK_NAME_MAX + 1]; /* [a-z0-9][a-z0-9_-]{0,31} */
        char url[URL_MAX + 1];
        char events[WEBHOOK_EVENTS_MAX]; /* types and PREFIX.*, separated by spaces or commas */
};

enum { WITNESS_NAME_MAX = SECTION_NAME_MAX, WITNESS_KEY_MAX = 512, WITNESSES_MAX = 16 };
struct witness_config {                  /* a section [witness NAME] */
        char name[WITNESS_NAME_MAX + 1]; /* [a-z0-9][a-z0-9_-]{0,31} */
        char url[URL_MAX + 1];           /* the submission prefix */
        char key[WITNESS_KEY_MAX + 1];   /* a verifier key */
};

struct config {
        /* [server] */
        char data_dir[PATH_SIZE];    /* default /var/lib/unlearnd; $STATE_DIRECTORY where set */
        char listen_host[64];        /* 127.0.0.1 */
        uint32_t listen_port;        /* 8417; 0: any free port */
        uint32_t http_threads;       /* 2 */
        uint32_t predict_threads;    /* 1 */
        uint32_t connections_max;    /* 10000 */
        uint32_t idle_timeout_s;     /* 60000 */
        uint64_t upload_max_bytes;   /* compressed bytes of one upload; 64 GiB */
        uint64_t infer_max_bytes;    /* 16 MiB */
        char tokens_file[PATH_SIZE]; /* "": none */
        bool insecure_no_auth;
        char log_level[16];
        /* [store] */
        uint64_t map_bytes;         /* 1 TiB sparse */
        char ledger_dir[PATH_SIZE]; /* "": none; "none": none any more */
        char backup_dir[PATH_SIZE]; /* "": no backups */
        /* [audit] */
        char origin[128]; /* default "unlearnd.local/HOSTNAME" made at first start and kept */
        uint32_t retention_months;    /* 0: entries are kept for ever; else 24 and more */
        uint32_t witness_interval_ms; /* 60000 */
        /* [opendsr] */
        char opendsr_domain[256]; /* "": not spoken */
        char opendsr_base_url[512];
        char opendsr_key_file[PATH_SIZE];
        char opendsr_certificate_file[PATH_SIZE];
        char opendsr_identities[512];
        char opendsr_regulation[16];
        bool opendsr_hold;
        /* [training] */
        uint32_t workers;             /* parallel jobs; default: processors, at most 8 */
        uint64_t worker_memory_bytes; /* 4 GiB */
        uint32_t worker_seconds;      /* 3600 */
        uint32_t gather_window_ms;    /* 200 */
        uint32_t retry_first_ms;      /* 1000, doubling to 5 min */
        char worker_path[PATH_SIZE];  /* default: unlearn-worker beside the daemon, else libexec */
        char blas_kernel[32];         /* "": whatever OpenBLAS picks, pinned at first training */
        /* [outgoing] */
        char allow_networks[512];     /* beside the public Internet; "": none */
        char ca_file[PATH_SIZE];      /* "": the system's */
        uint32_t delivery_timeout_ms; /* 15000 */
        uint32_t delivery_retry_ms;   /* 5000, four times as long each time, to 12 h */
        uint32_t delivery_give_up_s;  /* 3 days */
        bool hold_outgoing;
        /* [webhook NAME] */
        uint32_t webhook_count;
        struct webhook_config webhooks[WEBHOOKS_MAX];
        /* [witness NAME] */
        uint32_t witness_count;
        struct witness_config witnesses[WITNESSES_MAX];
};

void config_defaults(struct config *c);
/* Reads a file over the defaults. UL_INVALID names file, line and option, and suggests the nearest
 * option where the name is unknown. */
int config_read(const char *path, struct config *c, struct errinfo *e);
/* One "section.option" = value, as the command line gives it. */
int config_set(struct config *c, const char *section, const char *name, const char *value,
               struct errinfo *e);
/* An option as a flag of the command line: `flag` is its name with dashes ("data-dir"), value NULL
 * where none was given with '='. *used: `next`, the argument after it, was taken as its value (on
 * and off options take none). `listen` is the one flag that sets two options (ADDR:PORT).
 * UL_INVALID with the nearest flag where there is none of that name. */
int config_flag(struct config *c, const char *flag, const char *value, const char *next, bool *used,
                struct errinfo *e);
/* Whether the address is 127/8, ::1 or localhost. */
bool config_loopback(const char *host);
/* A list as it is meant: the default where it is empty. */
const char *config_events(const char *events);
/* Does a list such as WEBHOOK_EVENTS_MAX holds name this type of event? */
bool config_events_match(const char *events, const char *type);
/* Checks what one option cannot: a non-loopback address without tokens, and the like. */
int config_check(const struct config *c, struct errinfo *e);
/* The documented file, from the table (unlearnd --print-config). */
struct buf;
void config_document(struct buf *out);
/* The options of `unlearnd --help`, and the OPTIONS section of the man pages (roff). */
void config_help(struct buf *out);
void config_man(struct buf *out);

#endif
