/* SPDX-License-Identifier: Apache-2.0
 * test_store_check.c: damage to the control database. Whatever a flipped bit, a zeroed sector or a
 * cut does to the file: store_check says so, or the store holds exactly what it held. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/store/db.h"
#include "lib/util/file.h"
#include "tests/unit/store_fixture.h"
#include <fcntl.h>
#include <time.h>

enum { META_BYTES = 152, PAGE = 4096, SECTOR = 512, SMALL_MAP_BYTES = 800 * 1024 };

/* A sanitizer makes each damage several times as dear, and what it is to find is found on fewer:
 * every third place, which is another one in each sector, page and byte. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { ONE_OF = 3 };
#else
enum { ONE_OF = 1 };
#endif

struct file {
        struct fixture *f;
        char path[300];
        uint8_t *bytes; /* [len] as they were */
        size_t len;
        uint8_t digest[SHA256_BYTES]; /* of all that the store held */
        unsigned long damaged, detected, harmless;
};

static unsigned long total[3]; /* damaged, detected, harmless */
static uint64_t dice_state;

static uint64_t dice(void)
{
        dice_state = dice_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return dice_state >> 33;
}

static void dice_seed(void)
{
        const char *seed = getenv("UNLEARND_DAMAGE_SEED");
        dice_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
        print_message("UNLEARND_DAMAGE_SEED=%llu\n", (unsigned long long)dice_state);
}

/* --- a store with something of everything --- */

static void put_some(struct txn *t, uint32_t n)
{
        static uint8_t big[3 * PAGE];
        struct record_row record = {.shard = n % 7, .slice = 1, .row = n};
        struct suppression_row gone = {.since_ms = n};
        char name[32];
        memcpy(record.subject, ID(n / 3), sizeof record.subject);
        (void)t_record_put(t, 1, ID(n), &record);
        (void)t_suppression_put(t, ID(n), 0, SUPPRESS_SUBJECT, &gone);
        fill(big, sizeof big, n);
        (void)snprintf(name, sizeof name, "blob/%u", n % 5);
        (void)t_blob_put(t, name, big, n % 11 == 0 ? sizeof big : n % 100);
        (void)t_audit_leaf_put(t, n, big, n % 300);
        (void)t_audit_index_put(t, 1, ID(n % 50), n);
        if (n > 40)
                (void)t_record_del(t, 1, ID(n - 40));
        assert_int_equal(txn_error(t), 0);
}

static void work(struct fixture *f, uint32_t from, uint32_t commits)
{
        for (uint32_t i = from; i < from + commits; i++) {
                struct txn *t = begin_write(f);
                struct txn *child = begin_child(t);
                for (uint32_t k = 0; k < 8; k++)
                        put_some(child, i * 8 + k);
                if (i % 5 == 0)
                        txn_abort(&child);
                else
                        commit(&child);
                assert_int_equal(t_counter_put(t, "n", i), 0);
                if (i % 7 == 0)
                        txn_abort(&t);
                else
                        commit(&t);
        }
}

struct digesting {
        struct sha256_state hash;
        int table;
};

static int digest_entry(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct digesting *d = arg;
        sha256_add(&d->hash, &d->table, sizeof d->table);
        sha256_add(&d->hash, key->at, key->left);
        sha256_add(&d->hash, value->at, value->left);
        return 0;
}

static void digest_store(struct fixture *f, uint8_t out[SHA256_BYTES])
{
        struct txn *t = begin_read(f);
        struct digesting d;
        sha256_begin(&d.hash);
        for (d.table = 0; d.table < TABLE_COUNT; d.table++)
                assert_int_equal(
                        db_walk(t, (enum table)d.table, &(struct db_span){0}, digest_entry, &d), 0);
        sha256_end(&d.hash, out);
        txn_abort(&t);
}

static void write_bytes(const char *path, uint64_t at, const void *data, size_t len)
{
        int fd = open(path, O_WRONLY);
        assert_true(fd >= 0);
        assert_int_equal(write_at(fd, data, len, at, NULL), 0);
        assert_int_equal(close(fd), 0);
}

static void open_file(struct file *x, struct fixture *f)
{
        struct buf b = {0};
        *x = (struct file){.f = f};
        (void)snprintf(x->path, sizeof x->path, "%s/control.mdb", f->dir);
        work(f, 1, 40);
        digest_store(f, x->digest);
        store_close(&f->store);
        assert_int_equal(read_file(x->path, 1 << 30, &b, NULL), 0);
        x->bytes = b.data;
        x->len = b.len;
}

static int check(const struct file *x, struct errinfo *e)
{
        struct store_found found;
        int err = store_check(x->path, &found, e);
        assert_false(found.empty);
        return err;
}

/* The file is damaged: said, or it holds what it held; true where the check saw it. Then it is as
 * it was. */
static bool judge(struct file *x, const char *what, uint64_t at)
{
        struct errinfo e = {0};
        struct store_found found;
        uint8_t now[SHA256_BYTES];
        x->damaged++;
        int err = store_check(x->path, &found, &e);
        if (err != 0) {
                assert_true(err == UL_CORRUPT || err == UL_INVALID);
                assert_true(e.detail[0] != '\0');
                x->detected++;
        } else {
                /* to be read alone, which spares the sync; some as the daemon opens it */
                err = x->harmless % 8 != 0
                              ? store_open_copy(x->path, &x->f->store, &e)
                              : store_open(x->path, FIXTURE_MAP_BYTES, &x->f->store, &e);
                assert_int_equal(err, 0);
                digest_store(x->f, now);
                store_close(&x->f->store);
                if (memcmp(now, x->digest, sizeof now) != 0)
                        fail_msg("%s at byte %llu passed the check and changed the store", what,
                                 (unsigned long long)at);
                x->harmless++;
        }
        write_bytes(x->path, 0, x->bytes, x->len);
        return err != 0 || found.finished;
}

static void flip(struct file *x, uint64_t at, unsigned bit)
{
        uint8_t b = (uint8_t)(x->bytes[at] ^ (1u << bit));
        write_bytes(x->path, at, &b, 1);
}

static void close_file(struct file *x)
{
        total[0] += x->damaged;
        total[1] += x->detected;
        total[2] += x->harmless;
        free(x->bytes);
        fixture_open(x->f);
}

/* --- what passes --- */

static void a_store_passes_whatever_was_committed_aborted_and_deleted(void **state)
{
        struct fixture *f = *state;
        char path[300];
        struct errinfo e = {0};
        struct store_found found;
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        for (uint32_t i = 1; i < 400 / ONE_OF; i++) {
                if (store_check(path, &found, &e) != 0)
                        fail_msg("after %u commits: %s", i, e.detail);
                assert_false(found.empty || found.finished);
                work(f, i, 1);
                if (i % 50 == 0)
                        fixture_reopen(f);
        }
}

static void a_reader_that_holds_old_pages_does_not_matter(void **state)
{
        struct fixture *f = *state;
        char path[300];
        struct store_found found;
        struct txn *old = begin_read(f);
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        work(f, 1, 30);
        assert_int_equal(store_check(path, &found, NULL), 0);
        txn_abort(&old);
        work(f, 31, 30);
        assert_int_equal(store_check(path, &found, NULL), 0);
}

static void a_transaction_without_a_change_writes_nothing(void **state)
{
        struct fixture *f = *state;
        struct file x;
        work(f, 1, 1);
        open_file(&x, f);
        fixture_open(f);
        struct txn *t = begin_write(f);
        struct txn *child = begin_child(t);
        assert_int_equal(t_counter_put(child, "n", 9), 0);
        txn_abort(&child);
        commit(&t);
        store_close(&f->store);
        struct buf now = {0};
        assert_int_equal(read_file(x.path, 1 << 30, &now, NULL), 0);
        assert_int_equal(now.len, x.len);
        assert_memory_equal(now.data, x.bytes, x.len);
        buf_free(&now, false);
        close_file(&x);
}

static void no_file_an_empty_one_and_one_of_zeros_hold_nothing(void **state)
{
        struct fixture *f = *state;
        char path[300];
        struct store_found found;
        static const uint8_t zeros[2 * PAGE];
        store_close(&f->store);
        (void)snprintf(path, sizeof path, "%s/other.mdb", f->dir);
        assert_int_equal(store_check(path, &found, NULL), 0);
        assert_true(found.empty);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        assert_true(fd >= 0);
        (void)close(fd);
        assert_int_equal(store_check(path, &found, NULL), 0);
        assert_true(found.empty);
        write_bytes(path, 0, zeros, sizeof zeros);
        assert_int_equal(store_check(path, &found, NULL), 0);
        assert_true(found.empty);
        fixture_open(f);
}

/* What can go wrong in nested transactions: pages that a child took and gave back, freed twice or
 * not at all; values in pages of their own; tables that grow and empty again; a map that is full.
 */
static void put_or_delete(struct txn *t)
{
        static const enum table tables[] = {TABLE_BLOBS, TABLE_AUDIT_LEAVES, TABLE_RECORDS,
                                            TABLE_JOBS};
        static uint8_t value[5 * PAGE];
        const enum table table = tables[dice() % 4];
        uint8_t key[16] = {0};
        const bool large = dice() % 12 == 0;
        put_be64(key, dice() % 300);
        int err;
        if (dice() % 5 < 2) {
                err = db_del(t, table, key, sizeof key);
        } else {
                fill(value, sizeof value, (unsigned)dice());
                err = db_put(t, table, key, sizeof key, value,
                             dice() % (large ? sizeof value : 300));
        }
        assert_true(err == 0 || err == UL_NOT_FOUND || err == UL_NOSPACE);
}

static void change_at_random(struct txn *t, unsigned depth)
{
        for (uint64_t i = dice() % 12; i > 0 && txn_error(t) == 0; i--) {
                if (depth > 0 && dice() % 3 == 0) {
                        struct txn *child = begin_child(t);
                        change_at_random(child, depth - 1);
                        if (txn_error(child) != 0 || dice() % 2 == 0)
                                txn_abort(&child);
                        else
                                commit(&child);
                } else {
                        for (uint64_t k = dice() % 20; k > 0; k--)
                                put_or_delete(t);
                }
        }
}

static void empty_a_table(struct txn *t, enum table table)
{
        uint8_t key[16];
        while (db_first(t, table, NULL, 0, key, sizeof key) == 0)
                (void)db_del(t, table, key, sizeof key);
}

/* Whether it was committed. */
static bool transact_at_random(struct fixture *f)
{
        struct txn *t = begin_write(f);
        change_at_random(t, 4);
        if (dice() % 40 == 0)
                empty_a_table(t, dice() % 2 == 0 ? TABLE_BLOBS : TABLE_AUDIT_LEAVES);
        if (dice() % 5 == 0) {
                txn_abort(&t);
                return false;
        }
        int err = txn_commit(&t, NULL);
        assert_true(err == 0 || err == UL_NOSPACE);
        return err == 0;
}

static void transact_and_check(struct fixture *f, uint64_t map_bytes)
{
        const char *rounds = getenv("UNLEARND_NESTED_ROUNDS");
        unsigned long left = rounds != NULL ? strtoul(rounds, NULL, 10) : 300 / ONE_OF,
                      committed = 0;
        struct txn *old = NULL;
        struct store_found found;
        struct errinfo e = {0};
        char path[300];
        dice_seed();
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        for (; left > 0; left--) {
                committed += transact_at_random(f);
                if (dice() % 10 == 0 && old == NULL)
                        old = begin_read(f);
                else if (dice() % 5 == 0)
                        txn_abort(&old);
                if (dice() % 8 != 0)
                        continue;
                txn_abort(&old);
                store_close(&f->store);
                if (store_check(path, &found, &e) != 0)
                        fail_msg("%lu rounds before the end: %s", left, e.detail);
                assert_false(found.finished);
                assert_int_equal(store_open(f->dir, map_bytes, &f->store, &e), 0);
        }
        txn_abort(&old);
        print_message("committed %lu\n", committed);
}

static void no_page_is_lost_by_nested_transactions_whichever_are_aborted(void **state)
{
        transact_and_check(*state, FIXTURE_MAP_BYTES);
}

static void no_page_is_lost_where_a_full_map_aborts_them(void **state)
{
        struct fixture *f = *state;
        store_close(&f->store);
        assert_int_equal(store_open(f->dir, SMALL_MAP_BYTES, &f->store, NULL), 0);
        transact_and_check(f, SMALL_MAP_BYTES);
}

/* --- a commit whose meta page could not be written --- */

static void read_path(const char *path, struct buf *b)
{
        b->len = 0;
        assert_int_equal(read_file(path, 1 << 30, b, NULL), 0);
}

/* What LMDB leaves of the last commit where that write fails: all of it, but in its meta page the
 * last page and the id of the commit before the last. The check makes it whole, to the byte. */
static void undo_and_finish(const char *path, struct buf *before, struct buf *after)
{
        struct store_found found;
        struct errinfo e = {0};
        read_path(path, after);
        for (uint64_t at = 0; at < 2 * PAGE; at += PAGE)
                if (get_le64(before->data + at + 144) != get_le64(after->data + at + 144))
                        write_bytes(path, at + 136, before->data + at + 136, 16);
        if (store_check(path, &found, &e) != 0)
                fail_msg("transaction %llu: %s", (unsigned long long)get_le64(before->data + 144),
                         e.detail);
        assert_true(found.finished);
        read_path(path, before);
        assert_int_equal(before->len, after->len);
        assert_memory_equal(before->data, after->data, after->len);
        assert_int_equal(store_check(path, &found, &e), 0);
        assert_false(found.finished);
}

static void a_commit_whose_meta_page_could_not_be_written_is_finished(void **state)
{
        struct fixture *f = *state;
        struct buf before = {0}, after = {0};
        char path[300];
        dice_seed();
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        for (unsigned i = 0; i < 120 / ONE_OF; i++) {
                read_path(path, &before);
                struct txn *t = begin_write(f);
                change_at_random(t, 3);
                if (i % 20 == 7)
                        empty_a_table(t, TABLE_BLOBS);
                assert_int_equal(t_counter_put(t, "n", i), 0);
                commit(&t);
                store_close(&f->store);
                undo_and_finish(path, &before, &after);
                fixture_open(f);
        }
        buf_free(&before, false);
        buf_free(&after, false);
}

/* The undone page and one more fault: what is not all there is not called a commit. */
static void an_unfinished_commit_that_is_damaged_is_not_finished(void **state)
{
        struct fixture *f = *state;
        struct file x;
        open_file(&x, f);
        fixture_open(f);
        work(f, 41, 1); /* its pages are not those of what x holds */
        store_close(&f->store);
        struct buf now = {0};
        struct store_found found;
        unsigned refused = 0;
        read_path(x.path, &now);
        const uint64_t at = get_le64(now.data + 144) > get_le64(now.data + PAGE + 144) ? 0 : PAGE;
        for (uint64_t page = 2; page * PAGE < now.len; page++) {
                const uint8_t wrong = now.data[page * PAGE] ^ 1;
                if (page * PAGE < x.len &&
                    memcmp(now.data + page * PAGE, x.bytes + page * PAGE, PAGE) == 0)
                        continue; /* not of that commit */
                write_bytes(x.path, at + 136, x.bytes + at + 136, 16);
                write_bytes(x.path, page * PAGE, &wrong, 1);
                refused += store_check(x.path, &found, NULL) == UL_CORRUPT;
                write_bytes(x.path, 0, now.data, now.len);
        }
        assert_true(refused > 3);
        buf_free(&now, false);
        close_file(&x);
}

/* --- copies --- */

static void copy_over(struct fixture *f, const char *path)
{
        char copy[300];
        struct store_found found;
        struct errinfo e = {0};
        (void)snprintf(copy, sizeof copy, "%s/copy.mdb", f->dir);
        assert_int_equal(store_copy(f->store, copy, &e), 0);
        if (store_check(copy, &found, &e) != 0)
                fail_msg("a copy: %s", e.detail);
        assert_false(found.empty || found.finished);
        store_close(&f->store);
        assert_int_equal(rename(copy, path), 0);
        fixture_open(f);
}

static void commits(struct fixture *f, const char *path, unsigned count)
{
        struct buf before = {0}, after = {0};
        for (unsigned i = 0; i < count; i++) {
                struct store_found found;
                struct errinfo e = {0};
                if (store_check(path, &found, &e) != 0)
                        fail_msg("after %u commits of %u: %s", i, count, e.detail);
                assert_false(found.finished);
                read_path(path, &before);
                work(f, 1 + i % 4, 1);
                store_close(&f->store);
                undo_and_finish(path, &before, &after);
                fixture_open(f);
        }
        buf_free(&before, false);
        buf_free(&after, false);
}

static void copies_of_copies_pass_whatever_was_committed_in_between(void **state)
{
        struct fixture *f = *state;
        char path[300];
        uint8_t before[SHA256_BYTES], now[SHA256_BYTES];
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        for (unsigned n = 0; n < 6 * 6; n += 2 * ONE_OF - 1) { /* each count occurs */
                commits(f, path, n / 6);
                copy_over(f, path);
                commits(f, path, n % 6);
                digest_store(f, before);
                copy_over(f, path);
                digest_store(f, now);
                assert_memory_equal(before, now, sizeof now);
                commits(f, path, 5);
                store_close(&f->store);
                assert_int_equal(unlink(path), 0);
                fixture_open(f);
        }
}

/* --- what does not --- */

static uint64_t newest(const struct file *x)
{
        return get_le64(x->bytes + 144) > get_le64(x->bytes + PAGE + 144) ? 0 : PAGE;
}

/* Page header, address and map size; a table record's pad; that the file was opened by its name. */
static bool unused_in_meta(uint64_t byte, unsigned bit)
{
        return byte < 40 || (byte >= 88 && byte < 92) || (byte == 45 && bit == 6);
}

static void every_bit_of_the_meta_pages_is_watched(void **state)
{
        struct file x;
        open_file(&x, *state);
        for (uint64_t page = 0; page < 2; page++)
                for (uint64_t i = 0; i < META_BYTES; i++)
                        for (unsigned bit = (unsigned)i % ONE_OF; bit < 8; bit += ONE_OF) {
                                flip(&x, page * PAGE + i, bit);
                                bool found = judge(&x, "a flipped bit", page * PAGE + i);
                                if (page * PAGE == newest(&x) && !unused_in_meta(i, bit))
                                        assert_true(found);
                        }
        close_file(&x);
}

static void no_damage_to_a_meta_page_brings_the_transaction_before_back(void **state)
{
        struct file x;
        uint8_t id[8], meta[META_BYTES];
        open_file(&x, *state);
        const uint64_t at = newest(&x), other = PAGE - at;
        const uint64_t txn = get_le64(x.bytes + at + 144);

        put_le64(id, txn - 2); /* all that LMDB looks at */
        write_bytes(x.path, at + 144, id, sizeof id);
        assert_true(judge(&x, "the newest transaction's id", at));

        memcpy(meta, x.bytes + other, sizeof meta); /* a copy of the other meta page */
        put_le64(meta, at / PAGE);
        write_bytes(x.path, at, meta, sizeof meta);
        assert_int_equal(check(&x, NULL), UL_CORRUPT);
        put_le64(meta + 144, txn); /* with the right id */
        write_bytes(x.path, at, meta, sizeof meta);
        assert_int_equal(check(&x, NULL), UL_CORRUPT);
        put_le64(meta + 144, txn - 2);
        write_bytes(x.path, at, meta, sizeof meta);
        assert_int_equal(check(&x, NULL), UL_CORRUPT);
        judge(&x, "another meta page", at);

        /* torn after any number of bytes: the older half is the other page's */
        for (size_t cut = 24; cut < META_BYTES; cut += 8) {
                memcpy(meta, x.bytes + at, sizeof meta);
                memcpy(meta + cut, x.bytes + other + cut, sizeof meta - cut);
                write_bytes(x.path, at, meta, sizeof meta);
                judge(&x, "a torn meta page", at + cut);
        }
        close_file(&x);
}

static void flipped_bits_anywhere_are_found_or_harmless(void **state)
{
        struct file x;
        dice_seed();
        open_file(&x, *state);
        for (int i = 0; i < 4000 / ONE_OF; i++) {
                uint64_t at = dice() % x.len;
                flip(&x, at, (unsigned)(dice() % 8));
                judge(&x, "a flipped bit", at);
        }
        assert_true(x.detected > 500 / ONE_OF); /* most of the file is in use */
        close_file(&x);
}

static void page_headers_and_first_nodes_are_watched(void **state)
{
        struct file x;
        dice_seed();
        open_file(&x, *state);
        for (uint64_t page = 2; page * PAGE < x.len; page++)
                for (uint64_t i = page % ONE_OF; i < 24; i += ONE_OF) {
                        flip(&x, page * PAGE + i, (unsigned)(dice() % 8));
                        judge(&x, "a flipped bit of a header", page * PAGE + i);
                }
        close_file(&x);
}

static void a_page_that_is_in_use_and_listed_as_free_is_found(void **state)
{
        struct file x;
        uint8_t used[8];
        unsigned found = 0;
        open_file(&x, *state);
        const uint64_t meta = newest(&x);
        const uint64_t list = get_le64(x.bytes + meta + 40 + 40) * PAGE; /* the table's root */
        memcpy(used, x.bytes + meta + 40 + 48 + 40, sizeof used);        /* the main table's */
        for (uint64_t at = list + 16; at + 8 <= list + PAGE; at += 2 * ONE_OF) {
                struct errinfo e = {0};
                write_bytes(x.path, at, used, sizeof used);
                if (check(&x, &e) != 0 && strstr(e.detail, "used twice") != NULL)
                        found++;
                judge(&x, "a used page among the free ones", at);
        }
        assert_true(found > 0);
        close_file(&x);
}

static void zeroed_sectors_are_found_or_harmless(void **state)
{
        static const uint8_t zeros[SECTOR];
        struct file x;
        open_file(&x, *state);
        for (uint64_t at = 0; at + SECTOR <= x.len; at += SECTOR * ONE_OF) {
                write_bytes(x.path, at, zeros, sizeof zeros);
                judge(&x, "a zeroed sector", at);
        }
        close_file(&x);
}

static void a_cut_file_is_found_or_harmless(void **state)
{
        struct file x;
        open_file(&x, *state);
        for (uint64_t len = SECTOR; len < x.len; len += 3 * SECTOR) {
                assert_int_equal(truncate(x.path, (off_t)len), 0);
                judge(&x, "a cut", len);
        }
        close_file(&x);
}

/* A pointer to a page that was in use once finds old values, whose tags hold. */
static void a_page_of_an_earlier_time_is_not_taken_for_the_present_one(void **state)
{
        struct file x;
        open_file(&x, *state);
        unsigned long tried = 0;
        const uint64_t last = get_le64(x.bytes + newest(&x) + 136);
        for (uint64_t at = 2 * PAGE; at + 8 <= x.len; at += 2) {
                uint8_t id[8];
                uint64_t to = get_le64(x.bytes + at) & UINT64_C(0xffffffffffff);
                if (to < 2 || to > last || at % PAGE == 0)
                        continue; /* not a branch node's child, nor a root */
                put_le64(id, 2 + (to - 2 + 1 + tried % (last - 2)) % (last - 1));
                write_bytes(x.path, at, id, 6);
                judge(&x, "another page's number", at);
                if (++tried == 1500 / ONE_OF)
                        break;
        }
        assert_true(tried > 100);
        close_file(&x);
}

static void another_schema_version_is_told_from_damage(void **state)
{
        struct fixture *f = *state;
        struct errinfo e = {0};
        struct txn *t = begin_write(f);
        char path[300];
        struct store_found found;
        uint8_t version[4];
        put_le32(version, DB_SCHEMA_VERSION + 1);
        assert_int_equal(db_put(t, TABLE_META, DB_SCHEMA, strlen(DB_SCHEMA), version, 4), 0);
        commit(&t);
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        assert_int_equal(store_check(path, &found, &e), UL_INVALID);
        char told[32];
        (void)snprintf(told, sizeof told, "schema version %d", DB_SCHEMA_VERSION + 1);
        assert_non_null(strstr(e.detail, told));
}

/* --- values, while the store is open --- */

/* Flips a bit behind every copy of `needle` in the file. */
static void damage_value(const struct fixture *f, const char *needle)
{
        char path[300];
        struct buf b = {0};
        unsigned found = 0;
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        assert_int_equal(read_file(path, 1 << 30, &b, NULL), 0);
        const uint8_t *end = b.data + b.len;
        for (uint8_t *p = b.data; (p = memmem(p, (size_t)(end - p), needle, strlen(needle)));
             p++, found++) {
                uint8_t flipped = p[2] ^ 1;
                write_bytes(path, (uint64_t)(p + 2 - b.data), &flipped, 1);
        }
        assert_true(found > 0);
        buf_free(&b, false);
}

static int ignore_entry(void *arg, struct unpacker *key, struct unpacker *value)
{
        (void)arg;
        (void)key;
        (void)value;
        return 0;
}

static void a_damaged_value_is_a_sticky_error_that_names_its_table(void **state)
{
        struct fixture *f = *state;
        struct errinfo e = {0};
        struct buf out = {0};
        struct txn *t = begin_write(f);
        assert_int_equal(t_blob_put(t, "good", "unharmed", 8), 0);
        assert_int_equal(t_blob_put(t, "victim", "needle-in-a-blob", 16), 0);
        commit(&t);
        damage_value(f, "needle-in-a-blob");

        t = begin_write(f);
        assert_int_equal(t_blob_get(t, "good", &out), 0);
        assert_int_equal(out.len, 8);
        assert_null(store_damaged(f->store));
        assert_int_equal(t_blob_get(t, "victim", &out), UL_CORRUPT);
        assert_int_equal(out.len, 8);
        assert_string_equal(store_damaged(f->store), "blobs");
        assert_int_equal(t_blob_get(t, "good", &out), UL_CORRUPT);
        assert_int_equal(txn_commit(&t, &e), UL_CORRUPT);
        assert_non_null(strstr(e.detail, "table blobs"));

        t = begin_read(f);
        assert_int_equal(db_walk(t, TABLE_BLOBS, &(struct db_span){0}, ignore_entry, NULL),
                         UL_CORRUPT);
        txn_abort(&t);
        t = begin_write(f);
        struct unpacker old;
        assert_int_equal(db_put_new(t, TABLE_BLOBS, "victim", 6, "x", 1, &old), UL_CORRUPT);
        txn_abort(&t);
        buf_free(&out, false);
}

static void a_value_under_another_key_or_table_does_not_pass(void **state)
{
        (void)state;
        const uint64_t tag = db_tag(TABLE_BLOBS, "key", 3, "value", 5);
        assert_true(db_tag(TABLE_BLOBS, "key", 3, "value", 5) == tag);
        assert_true(db_tag(TABLE_MODELS, "key", 3, "value", 5) != tag);
        assert_true(db_tag(TABLE_BLOBS, "kez", 3, "value", 5) != tag);
        assert_true(db_tag(TABLE_BLOBS, "keyv", 4, "alue", 4) != tag);
        assert_true(db_tag(TABLE_BLOBS, "key", 3, "valuf", 5) != tag);
        assert_true(db_tag(TABLE_BLOBS, "key", 3, "", 0) != tag);
}

/* Nothing that was damaged passed the check and changed the store: a test would have failed. */
static void report(void)
{
        const char *path = getenv("UNLEARND_FIGURES");
        FILE *f = path != NULL ? fopen(path, "a") : NULL;
        printf("figure: control database damaged %lu, detected %lu, harmless %lu\n", total[0],
               total[1], total[2]);
        if (f == NULL)
                return;
        fprintf(f,
                "{\"item\": \"control database damage\", \"damaged\": %lu, \"detected\": %lu, "
                "\"harmless\": %lu}\n",
                total[0], total[1], total[2]);
        fclose(f);
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WITH_STORE(a_store_passes_whatever_was_committed_aborted_and_deleted),
                WITH_STORE(a_reader_that_holds_old_pages_does_not_matter),
                WITH_STORE(a_transaction_without_a_change_writes_nothing),
                WITH_STORE(no_file_an_empty_one_and_one_of_zeros_hold_nothing),
                WITH_STORE(no_page_is_lost_by_nested_transactions_whichever_are_aborted),
                WITH_STORE(no_page_is_lost_where_a_full_map_aborts_them),
                WITH_STORE(a_commit_whose_meta_page_could_not_be_written_is_finished),
                WITH_STORE(an_unfinished_commit_that_is_damaged_is_not_finished),
                WITH_STORE(copies_of_copies_pass_whatever_was_committed_in_between),
                WITH_STORE(every_bit_of_the_meta_pages_is_watched),
                WITH_STORE(no_damage_to_a_meta_page_brings_the_transaction_before_back),
                WITH_STORE(flipped_bits_anywhere_are_found_or_harmless),
                WITH_STORE(page_headers_and_first_nodes_are_watched),
                WITH_STORE(a_page_that_is_in_use_and_listed_as_free_is_found),
                WITH_STORE(zeroed_sectors_are_found_or_harmless),
                WITH_STORE(a_cut_file_is_found_or_harmless),
                WITH_STORE(a_page_of_an_earlier_time_is_not_taken_for_the_present_one),
                WITH_STORE(another_schema_version_is_told_from_damage),
                WITH_STORE(a_damaged_value_is_a_sticky_error_that_names_its_table),
                WITH_STORE(a_value_under_another_key_or_table_does_not_pass),
        };
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        report();
        return failed;
}
