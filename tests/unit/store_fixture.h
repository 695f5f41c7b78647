/* SPDX-License-Identifier: Apache-2.0
 * store_fixture.h: a store in a folder of its own, for the tests of lib/store and lib/audit, and
 * the few short forms that they share. Included once by each test program, after cmocka.h. */
#ifndef UNLEARND_TESTS_STORE_FIXTURE_H
#define UNLEARND_TESTS_STORE_FIXTURE_H

#include "lib/store/tables.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
        char dir[256];
        struct store *store;
};

enum { FIXTURE_MAP_BYTES = 256 << 20 };

static inline int fixture_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st;
        (void)type;
        (void)ftw;
        return remove(path);
}

static inline void fixture_remove(const char *dir)
{
        (void)nftw(dir, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void fixture_dir(char out[256])
{
        const char *tmp = getenv("TMPDIR");
        (void)snprintf(out, 256, "%s/unlearnd-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
        assert_non_null(mkdtemp(out));
}

static inline void fixture_open(struct fixture *f)
{
        struct errinfo e = {0};
        int err = store_open(f->dir, FIXTURE_MAP_BYTES, &f->store, &e);
        if (err != 0)
                fail_msg("store_open: %s", e.detail);
}

static inline void fixture_reopen(struct fixture *f)
{
        store_close(&f->store);
        assert_null(f->store);
        fixture_open(f);
}

static inline int fixture_setup(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);
        assert_non_null(f);
        assert_int_equal(crypto_init(), 0);
        fixture_dir(f->dir);
        fixture_open(f);
        *state = f;
        return 0;
}

static inline int fixture_teardown(void **state)
{
        struct fixture *f = *state;
        store_close(&f->store);
        fixture_remove(f->dir);
        free(f);
        return 0;
}

static inline struct txn *begin_write(struct fixture *f)
{
        struct txn *t = NULL;
        assert_int_equal(store_write(f->store, &t, NULL), 0);
        return t;
}

static inline struct txn *begin_read(struct fixture *f)
{
        struct txn *t = NULL;
        assert_int_equal(store_read(f->store, &t, NULL), 0);
        return t;
}

static inline struct txn *begin_child(struct txn *parent)
{
        struct txn *t = NULL;
        assert_int_equal(store_nested(parent, &t, NULL), 0);
        return t;
}

static inline void commit(struct txn **t)
{
        struct errinfo e = {0};
        int err = txn_commit(t, &e);
        if (err != 0)
                fail_msg("commit: %s", e.detail);
        assert_null(*t);
}

/* 16 bytes that sort as n does. */
static inline const uint8_t *id16(uint64_t n, uint8_t out[16])
{
        memset(out, 0, 16);
        put_be64(out + 8, n);
        return out;
}

#define ID(n) id16((n), (uint8_t[16]){0})

/* Fills a struct with bytes that differ from field to field. */
static inline void fill(void *p, size_t len, unsigned seed)
{
        uint8_t *b = p;
        for (size_t i = 0; i < len; i++)
                b[i] = (uint8_t)(i * 37 + seed * 101 + 11);
}

#endif
