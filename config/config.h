/* SPDX-License-Identifier: Apache-2.0
 * config.h: every option of the daemon, in one table that feeds the parser, --help, the man page
 * and the documented unlearnd.conf (config/unlearnd.conf is checked against it). inih reads the
 * file. */
#ifndef UNLEARND_CONFIG_CONFIG_H
#define UNLEARND_CONFIG_CONFIG_H

#include "lib/util/err.h"
#include "lib/util/file.h"
#include <stdbool.h>
#include <stdint.h>

struct config {
        /* [server] */
        char data_dir[PATH_SIZE];    /* default /var/lib/unlearnd; $STATE_DIRECTORY where set */
        char listen_host[64];        /* 127.0.0.1 */
        uint32_t listen_port;        /* 8417; 0: any free port */
        uint32_t http_threads;       /* 2 */
        uint32_t predict_threads;    /* 1 */
        uint32_t connections_max;    /* 10000 */
        uint32_t idle_timeout_s;     /* 60 */
        uint64_t upload_max_bytes;   /* compressed bytes of one upload; 64 GiB */
        uint64_t infer_max_bytes;    /* 16 MiB */
        char tokens_file[PATH_SIZE]; /* "": none */
        bool insecure_no_auth;
        char log_level[16];
        /* [store] */
        uint64_t map_bytes; /* 1 TiB sparse */
        /* [audit] */
        char origin[128]; /* default "unlearnd.local/HOSTNAME" made at first start and kept */
        /* [training] */
        uint32_t workers;             /* parallel jobs; default: processors, at most 8 */
        uint64_t worker_memory_bytes; /* 4 GiB */
        uint32_t worker_seconds;      /* 3600 */
        uint32_t gather_window_ms;    /* 200 */
        uint32_t retry_first_ms;      /* 1000, doubling to 5 min */
        char worker_path[PATH_SIZE];  /* default: unlearn-worker beside the daemon, else libexec */
        char blas_kernel[32];         /* "": whatever OpenBLAS picks, pinned at first training */
};

void config_defaults(struct config *c);
/* Reads a file over the defaults. UL_INVALID names file, line and option, and suggests the nearest
 * option where the name is unknown. */
int config_read(const char *path, struct config *c, struct errinfo *e);
/* One "section.option" = value, as the command line gives it. */
int config_set(struct config *c, const char *section, const char *name, const char *value,
               struct errinfo *e);
/* Checks what one option cannot: a non-loopback address without tokens, and the like. */
int config_check(const struct config *c, struct errinfo *e);
/* The documented file, from the table (unlearnd --print-config). */
struct buf;
void config_document(struct buf *out);

#endif
