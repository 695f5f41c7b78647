/* SPDX-License-Identifier: Apache-2.0
 * sync.c: `sync DIR MS` measures what one durable step costs on DIR's file system, with nothing
 * around it: fdatasync of 200 bytes overwritten in place, and the LMDB commit of 1, 8 and 512 puts
 * of 200 bytes under random keys, through lib/store (which adds a function call a put and opens
 * the environment as the daemon does). One JSON line. It must not know what is stored. */
#include "lib/store/db.h"
#include "lib/util/clock.h"
#include "lib/util/file.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
        VALUE_BYTES = 200,
        KEY_LEN = 16,
        FILE_BYTES = 1 << 20,
        SAMPLES_MAX = 1 << 16,
        MAP_BYTES = 1 << 30,
        MS_MAX = 60000,
};

struct samples {
        uint64_t us[SAMPLES_MAX];
        size_t n;
};
static struct samples samples;

static int by_value(const void *a, const void *b)
{
        const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
        return (x > y) - (x < y);
}

static void print_samples(const char *name, const char *before)
{
        double sum = 0;

        qsort(samples.us, samples.n, sizeof samples.us[0], by_value);
        for (size_t i = 0; i < samples.n; i++)
                sum += (double)samples.us[i];
        (void)printf("%s\"%s\": {\"count\": %zu, \"mean_us\": %.1f, \"p50_us\": %llu, "
                     "\"p99_us\": %llu}",
                     before, name, samples.n, sum / (double)samples.n,
                     (unsigned long long)samples.us[samples.n / 2],
                     (unsigned long long)samples.us[samples.n * 99 / 100]);
        samples.n = 0;
}

static void add_sample(uint64_t begin_us)
{
        samples.us[samples.n++] = mono_us() - begin_us;
}

static bool time_left(uint64_t since_us, uint32_t ms)
{
        return samples.n < SAMPLES_MAX && mono_us() - since_us < (uint64_t)ms * 1000;
}

static int measure_file(const char *dir, uint32_t ms, struct errinfo *e)
{
        char path[PATH_SIZE];
        uint8_t value[VALUE_BYTES] = {1};
        int fd = -1, rc = path_format(path, e, "%s/synced", dir);

        if (rc)
                return rc;
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
                return ul_fail_errno(e, "open");
        /* its blocks are there before the clock starts: only data is synced */
        for (uint64_t at = 0; rc == 0 && at + VALUE_BYTES <= FILE_BYTES; at += VALUE_BYTES)
                rc = write_at(fd, value, sizeof value, at, e);
        if (rc == 0)
                rc = sync_data(fd, e);
        const uint64_t since = mono_us();
        for (uint64_t at = 0; rc == 0 && time_left(since, ms);
             at = (at + VALUE_BYTES) % (FILE_BYTES - VALUE_BYTES)) {
                const uint64_t begin = mono_us();
                value[0]++;
                rc = write_at(fd, value, sizeof value, at, e);
                if (rc == 0)
                        rc = sync_data(fd, e);
                add_sample(begin);
        }
        (void)close(fd);
        (void)unlink(path);
        return rc;
}

static int commit_puts(struct store *s, uint32_t puts, uint64_t *state, struct errinfo *e)
{
        struct txn *t = NULL;
        uint64_t key[KEY_LEN / sizeof(uint64_t)];
        uint8_t value[VALUE_BYTES] = {1};
        const int rc = store_write(s, &t, e);

        if (rc)
                return rc;
        for (uint32_t i = 0; i < puts; i++) {
                for (size_t k = 0; k < sizeof key / sizeof *key; k++) {
                        *state = *state * 6364136223846793005u + 1442695040888963407u;
                        key[k] = *state ^ *state >> 29;
                }
                (void)db_put(t, TABLE_BLOBS, key, sizeof key, value, sizeof value);
        }
        return txn_commit(&t, e); /* with the first error of a put */
}

static int measure_commits(struct store *s, uint32_t puts, uint32_t ms, struct errinfo *e)
{
        const uint64_t since = mono_us();
        uint64_t state = since;
        int rc = 0;

        while (rc == 0 && time_left(since, ms)) {
                const uint64_t begin = mono_us();
                rc = commit_puts(s, puts, &state, e);
                add_sample(begin);
        }
        return rc;
}

static int run(const char *dir, uint32_t ms, struct errinfo *e)
{
        static const struct {
                const char *name;
                uint32_t puts;
        } commits[] = {{"lmdb_1", 1}, {"lmdb_8", 8}, {"lmdb_512", 512}};
        struct store *s = NULL;
        int rc = measure_file(dir, ms, e);

        if (rc)
                return rc;
        print_samples("fdatasync", "{");
        rc = store_open(dir, MAP_BYTES, &s, e);
        for (size_t i = 0; rc == 0 && i < sizeof commits / sizeof *commits; i++) {
                rc = measure_commits(s, commits[i].puts, ms, e);
                if (rc == 0)
                        print_samples(commits[i].name, ", ");
        }
        (void)printf("}\n");
        store_close(&s);
        return rc;
}

int main(int argc, char **argv)
{
        struct errinfo e = {0};
        char *end = NULL;
        const unsigned long ms = argc == 3 ? strtoul(argv[2], &end, 10) : 0;

        if (ms == 0 || ms > MS_MAX || *end) {
                (void)fprintf(stderr, "usage: sync DIR MS\n");
                return 2;
        }
        if (crypto_init() != 0 || run(argv[1], (uint32_t)ms, &e) != 0) {
                (void)fprintf(stderr, "sync: %s\n", e.detail);
                return 1;
        }
        return 0;
}
