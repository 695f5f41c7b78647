/* SPDX-License-Identifier: Apache-2.0
 * log.c: `log DIR SIZE...` grows an audit log in DIR to each of the sizes in turn, in group commits
 * as the writer makes them: durable, signed, indexed. At each size it measures what a reader waits
 * for: inclusion and consistency proofs at random places, each checked against the root, and tiles;
 * proofs twice, right after the store was opened, when no page is mapped yet, and then again. Times
 * are those of the processor, which other programs lengthen less than those of the clock; entries a
 * second are by the clock. One JSON line a size. It must not know what the entries mean. */
#include "lib/audit/log.h"
#include "lib/audit/merkle.h"
#include "lib/util/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { GROUP = 512, PROOFS = 2000 };
#define MAP_BYTES (UINT64_C(1) << 40)

static const uint8_t seed[SIGN_SEED_BYTES] = {1};
static const uint64_t words[1] = {7};
static struct prng dice;

static int fail(const char *what, const struct errinfo *e)
{
        (void)fprintf(stderr, "log: %s: %s\n", what, e->detail);
        return 1;
}

/* The four entries of an erasure, under the id of one. */
static int append_one(struct txn *t, const struct audit_log *log, uint64_t i,
                      uint8_t erasure[ULID_BYTES])
{
        static const char *const types[] = {"erasure.accepted", "erasure.forgotten",
                                            "erasure.scrubbed", "erasure.completed"};
        static const char data[] =
                "{\"erasure\":\"01M8854P3FMPWKZ3V5DDT2W63G\",\"matched\":5,\"reference\":null,"
                "\"regulation\":\"gdpr\",\"guarantee\":\"exact\",\"constituents\":1,"
                "\"checkpoints_destroyed\":2,\"certificate\":"
                "\"4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a\"}";
        uint8_t subject[1][PSEUDONYM_BYTES];
        struct audit_keys keys = {.erasure = erasure};
        if (i % 4 == 0)
                ulid_make(erasure);
        if (i % 4 == 1) { /* whom it was about is a key of one of them */
                for (size_t k = 0; k < PSEUDONYM_BYTES; k += 4)
                        put_le32(subject[0] + k, prng_u32(&dice));
                keys.subjects = (const uint8_t(*)[PSEUDONYM_BYTES])subject;
                keys.subject_count = 1;
        }
        return audit_append(t, log, now_ms(), types[i % 4], "bench", &keys, data, sizeof data - 1,
                            NULL);
}

static int grow(struct store *s, const struct audit_log *log, uint64_t from, uint64_t to,
                struct errinfo *e)
{
        static uint8_t erasure[ULID_BYTES];
        int err = 0;
        for (uint64_t i = from; i < to && err == 0;) {
                struct txn *t = NULL;
                err = store_write(s, &t, e);
                for (int k = 0; k < GROUP && i < to && err == 0; k++, i++)
                        err = append_one(t, log, i, erasure);
                if (err == 0)
                        err = audit_checkpoint_sign(t, log);
                if (t != NULL) {
                        int rc = err == 0 ? txn_commit(&t, e) : 0;
                        if (t != NULL)
                                txn_abort(&t);
                        err = err != 0 ? err : rc;
                }
        }
        return err;
}

static uint64_t cpu_us(void)
{
        struct timespec ts = {0};
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
        return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t below(uint64_t n)
{
        return ((uint64_t)prng_u32(&dice) << 32 | prng_u32(&dice)) % n;
}

/* Microseconds a proof; < 0: one of them does not hold. */
static double inclusions(struct txn *t, uint64_t size, const uint8_t root[SHA256_BYTES])
{
        static uint8_t hashes[AUDIT_PROOF_MAX][SHA256_BYTES];
        uint64_t spent = 0;
        for (int i = 0; i < PROOFS; i++) {
                uint8_t leaf[SHA256_BYTES];
                uint32_t count = 0;
                const uint64_t index = below(size), begin = cpu_us();
                int err = audit_get(t, index, NULL, leaf);
                if (err == 0)
                        err = audit_inclusion(t, index, size, hashes, &count, NULL);
                spent += cpu_us() - begin;
                if (err != 0 ||
                    !merkle_verify_inclusion(index, size, leaf,
                                             (const uint8_t(*)[SHA256_BYTES])hashes, count, root))
                        return -1;
        }
        return (double)spent / PROOFS;
}

static double consistencies(struct txn *t, uint64_t size, const uint8_t root[SHA256_BYTES])
{
        static uint8_t hashes[2 * AUDIT_PROOF_MAX][SHA256_BYTES];
        uint64_t spent = 0;
        for (int i = 0; i < PROOFS; i++) {
                uint8_t old[SHA256_BYTES];
                uint32_t count = 0;
                const uint64_t from = 1 + below(size), begin = cpu_us();
                int err = audit_consistency(t, from, size, hashes, &count, NULL);
                spent += cpu_us() - begin;
                if (err == 0)
                        err = audit_root(t, from, old, NULL);
                if (err != 0 ||
                    !merkle_verify_consistency(from, size, (const uint8_t(*)[SHA256_BYTES])hashes,
                                               count, old, root))
                        return -1;
        }
        return (double)spent / PROOFS;
}

static double tiles(struct txn *t, uint64_t size)
{
        struct buf out = {0};
        uint64_t spent = 0;
        int n = 0;
        for (; n < PROOFS / 10 && size >= TILE_WIDTH; n++) {
                const struct tile tile = {.entries = n % 2 == 0,
                                          .index = below(size / TILE_WIDTH),
                                          .width = TILE_WIDTH};
                const uint64_t begin = cpu_us();
                buf_reset(&out, false);
                if (audit_tile(t, &tile, &out, NULL) != 0)
                        return -1;
                spent += cpu_us() - begin;
        }
        buf_free(&out, false);
        return n > 0 ? (double)spent / n : 0;
}

/* What appending has cost this process so far. */
struct cost {
        double user_us, system_us, clock_us;
};

static double us_of(const struct timeval *t)
{
        return (double)t->tv_sec * 1e6 + (double)t->tv_usec;
}

static struct cost cost_now(void)
{
        struct rusage r = {0};
        (void)getrusage(RUSAGE_SELF, &r);
        return (struct cost){us_of(&r.ru_utime), us_of(&r.ru_stime), (double)mono_us()};
}

static struct cost cost_since(const struct cost *begin)
{
        const struct cost now = cost_now();
        return (struct cost){now.user_us - begin->user_us, now.system_us - begin->system_us,
                             now.clock_us - begin->clock_us};
}

struct bench {
        const char *dir;
        struct store *store;
        struct audit_log *log;
};

static int open_log(struct bench *b)
{
        struct errinfo e = {0};
        struct txn *t = NULL;
        int err = store_open(b->dir, MAP_BYTES, &b->store, &e);
        if (err == 0)
                err = store_read(b->store, &t, &e);
        if (err == 0)
                err = audit_open(t, "bench.example/log", seed, &b->log, &e);
        if (t != NULL)
                txn_abort(&t);
        return err == 0 ? 0 : fail("opening", &e);
}

static void close_log(struct bench *b)
{
        audit_close(&b->log);
        store_close(&b->store);
}

static void say_append(uint64_t from, uint64_t tenth, uint64_t to, const struct cost *whole,
                       const struct cost *last)
{
        const double n = (double)(to - from), m = (double)(to - tenth);
        (void)printf("{\"size\": %" PRIu64 ", \"append_per_s\": %.0f, \"append_us\": %.2f, "
                     "\"append_user_us\": %.2f, \"append_last_us\": %.2f, ",
                     to, n * 1e6 / whole->clock_us, (whole->user_us + whole->system_us) / n,
                     whole->user_us / n, (last->user_us + last->system_us) / m);
}

/* Its last tenth is measured apart: the mean over a decade is not what it costs at its end. */
static int append(struct bench *b, uint64_t from, uint64_t to)
{
        struct errinfo e = {0};
        const uint64_t tenth = to - (to - from + 9) / 10;
        const struct cost begin = cost_now();
        int err = grow(b->store, b->log, from, tenth, &e);
        const struct cost middle = cost_now();
        if (err == 0)
                err = grow(b->store, b->log, tenth, to, &e);
        const struct cost whole = cost_since(&begin), last = cost_since(&middle);
        if (err != 0)
                return fail("appending", &e);
        say_append(from, tenth, to, &whole, &last);
        return 0;
}

static int read_back(struct bench *b, uint64_t size)
{
        struct errinfo e = {0};
        struct txn *t = NULL;
        uint8_t root[SHA256_BYTES];
        uint64_t used = 0, map = 0;
        if (store_read(b->store, &t, &e) != 0 || audit_root(t, size, root, &e) != 0)
                return fail("reading", &e);
        const double first = inclusions(t, size, root), in = inclusions(t, size, root);
        const double between = consistencies(t, size, root), tile = tiles(t, size);
        txn_abort(&t);
        if (first < 0 || in < 0 || between < 0 || tile < 0)
                return fail("a proof does not hold", &e);
        store_usage(b->store, &used, &map);
        (void)printf("\"inclusion_first_us\": %.1f, \"inclusion_us\": %.1f, "
                     "\"consistency_us\": %.1f, \"tile_us\": %.1f, \"bytes\": %" PRIu64 "}\n",
                     first, in, between, tile, used);
        (void)fflush(stdout);
        return 0;
}

static int step(struct bench *b, uint64_t from, uint64_t to)
{
        int err = append(b, from, to);
        if (err != 0)
                return err;
        close_log(b);
        err = open_log(b);
        return err == 0 ? read_back(b, to) : err;
}

int main(int argc, char **argv)
{
        uint64_t from = 0;
        if (argc < 3 || crypto_init() != 0) {
                (void)fputs("usage: log DIR SIZE...\n", stderr);
                return 2;
        }
        struct bench b = {.dir = argv[1]};
        prng_init(&dice, (const uint8_t[KEY_BYTES]){1}, words, 1);
        int err = open_log(&b);
        for (int i = 2; i < argc && err == 0; i++) {
                const uint64_t to = strtoull(argv[i], NULL, 10);
                err = to > from ? step(&b, from, to) : 2;
                from = to;
        }
        close_log(&b);
        return err;
}
