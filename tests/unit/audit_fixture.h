/* SPDX-License-Identifier: Apache-2.0
 * audit_fixture.h: an audit log in a store of its own, and entries of known types, models, subjects
 * and times in it. For the tests of lib/audit/log.h. */
#ifndef UNLEARND_TESTS_AUDIT_FIXTURE_H
#define UNLEARND_TESTS_AUDIT_FIXTURE_H

#include "lib/audit/log.h"
#include "lib/audit/merkle.h"
#include "tests/unit/store_fixture.h"

static const uint8_t seed[SIGN_SEED_BYTES] = {1, 2, 3};
static const char origin[] = "unlearnd.example/log";
static const int64_t start_ms = INT64_C(1700000000000);

static inline int open_log(struct fixture *f, struct audit_log **log, struct errinfo *e)
{
        struct txn *t = begin_read(f);
        int err = audit_open(t, origin, seed, log, e);
        txn_abort(&t);
        return err;
}

static inline struct audit_log *open_good(struct fixture *f)
{
        struct audit_log *log = NULL;
        struct errinfo e = {0};
        if (open_log(f, &log, &e) != 0)
                fail_msg("audit_open: %s", e.detail);
        assert_non_null(log);
        return log;
}

static inline int append(struct txn *t, const struct audit_log *log, int64_t ms, const char *type,
                         const struct audit_keys *keys, uint64_t *index)
{
        return audit_append(t, log, ms, type, "tests", keys, "{\"n\":1}", 7, index);
}

/* Entries n..n+count-1, one a second, three types, four models, signed and committed. */
static inline void grow(struct fixture *f, const struct audit_log *log, uint64_t n, uint64_t count)
{
        static const char *const types[] = {"erasure.forgotten", "shard.retrained",
                                            "model.created"};
        struct txn *t = begin_write(f);
        for (uint64_t i = n; i < n + count; i++) {
                char model[16], reference[16];
                uint8_t subjects[2][16];
                uint64_t index;
                memcpy(subjects[0], ID(1000 + i % 5), 16);
                memcpy(subjects[1], ID(2000 + i), 16);
                (void)snprintf(model, sizeof model, "model-%u", (unsigned)(i % 4));
                (void)snprintf(reference, sizeof reference, "DSR-%u", (unsigned)(i / 10));
                struct audit_keys keys = {.model = model,
                                          .erasure = ID(i / 2),
                                          .subjects = (const uint8_t(*)[16])subjects,
                                          .subject_count = 2,
                                          .records = (const uint8_t(*)[16])subjects,
                                          .record_count = 1,
                                          .reference = reference};
                assert_int_equal(
                        append(t, log, start_ms + (int64_t)i * 1000, types[i % 3], &keys, &index),
                        0);
                assert_int_equal(index, i);
        }
        assert_int_equal(audit_checkpoint_sign(t, log), 0);
        commit(&t);
}

enum { QUERY_SIZE = 60 };

struct answer {
        uint64_t index[QUERY_SIZE];
        unsigned n, stop_after;
};

static inline int on_entry(void *arg, uint64_t index, const char *entry, size_t len,
                           const uint8_t leaf_hash[SHA256_BYTES])
{
        struct answer *a = arg;
        char begins[32];
        uint8_t hash[32];
        int n = snprintf(begins, sizeof begins, "{\"v\":1,\"index\":%u,", (unsigned)index);
        assert_memory_equal(entry, begins, (size_t)n);
        merkle_leaf(entry, len, hash);
        assert_memory_equal(hash, leaf_hash, sizeof hash);
        assert_true(a->n < QUERY_SIZE && (a->stop_after == 0 || a->n < a->stop_after));
        a->index[a->n++] = index;
        return a->n == a->stop_after ? 5 : 0;
}

#endif
