/* SPDX-License-Identifier: Apache-2.0
 * test_witness.c: what is kept of witnesses: a row each, and in it a checkpoint with the
 * cosignatures of all who cosigned it, in whatever round. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/witness.h"
#include "tests/unit/store_fixture.h"
#include <inttypes.h>

enum { MANY = 3 };
static const uint8_t seeds[MANY + 1][SIGN_SEED_BYTES] = {{1}, {2}, {3}, {4}};

struct world {
        struct fixture *f;
        struct service *s;
};

static void name_witness(struct service *s, uint32_t i, const uint8_t seed[SIGN_SEED_BYTES])
{
        struct cosigner *w = &s->cosigners[i];
        (void)snprintf(s->config.witnesses[i].name, sizeof s->config.witnesses[i].name, "w%u", i);
        (void)snprintf(w->name, sizeof w->name, "witness.example/%u", i);
        sign_keypair(seed, w->public_key);
        memcpy(w->id, w->public_key, sizeof w->id); /* any four bytes do here */
}

static struct world make_world(struct fixture *f)
{
        struct world w = {.f = f, .s = calloc(1, sizeof *w.s)};
        assert_non_null(w.s);
        w.s->store = f->store;
        w.s->cosigners = calloc(WITNESSES_MAX, sizeof *w.s->cosigners);
        assert_non_null(w.s->cosigners);
        w.s->config.witness_count = MANY;
        for (uint32_t i = 0; i < MANY; i++)
                name_witness(w.s, i, seeds[i]);
        return w;
}

static void end_world(struct world *w)
{
        free(w->s->cosigners);
        free(w->s);
}

static struct cosignature signed_at(uint32_t i, uint64_t time, const struct buf *note, size_t len)
{
        struct cosignature c = {.time = time};
        struct buf b = {0};
        buf_printf(&b, "cosignature/v1\ntime %" PRIu64 "\n", time);
        buf_append(&b, note->data, len);
        sign_detached(seeds[i], b.data, b.len, c.signature);
        buf_free(&b, false);
        return c;
}

/* A round for a log of `size` entries; outcomes: a letter a witness, c(osigned), f(ailed) or -. */
static void round_of(struct world *w, uint64_t size, const char *outcomes, uint64_t time,
                     struct witness_round *r)
{
        uint8_t root[SHA256_BYTES] = {(uint8_t)size};
        *r = (struct witness_round){.size = size};
        checkpoint_format("example.org/log", size, root, &r->note);
        r->text_len = r->note.len;
        buf_append_str(&r->note, "\n\xe2\x80\x94 example.org/log AAAAAAAA\n");
        for (uint32_t i = 0; i < MANY; i++) {
                struct witness_result *x = &r->result[i];
                x->offered = outcomes[i] != '-';
                x->outcome = outcomes[i] == 'c' ? WITNESS_COSIGNED : WITNESS_TIMEOUT;
                if (outcomes[i] == 'c')
                        x->cosignature = signed_at(i, time, &r->note, r->text_len);
        }
        struct txn *t = begin_write(w->f);
        assert_int_equal(witness_record(w->s, t, r), 0);
        commit(&t);
        buf_free(&r->note, false);
}

/* The witness's row; its note has to hold cosignatures by exactly these ("02"). */
static struct witness_row known(struct world *w, uint32_t i, const char *by)
{
        struct witness_row row;
        struct buf note = {0};
        struct txn *t = begin_read(w->f);
        assert_int_equal(witness_known(w->s, t, i, &row, &note), 0);
        txn_abort(&t);
        for (uint32_t k = 0; k < MANY && row.size > 0; k++) {
                struct cosignature c;
                size_t text_len;
                int err = cosignature_find_in_note((const char *)note.data, note.len,
                                                   &w->s->cosigners[k], &c, &text_len, NULL);
                assert_int_equal(err, strchr(by, (int)('0' + k)) != NULL ? 0 : UL_NOT_FOUND);
        }
        assert_int_equal(note.len == 0, row.size == 0);
        buf_free(&note, false);
        return row;
}

static void a_row_comes_back_as_it_was(void **state)
{
        struct fixture *f = *state;
        struct witness_row row = {.outcome = 7,
                                  .status = 409,
                                  .failures = 3,
                                  .attempt_ms = -1,
                                  .cosigned_ms = INT64_MAX,
                                  .size = UINT64_MAX,
                                  .time_s = 5},
                           got;
        struct buf note = {0};
        memset(row.signature, 9, sizeof row.signature);
        memset(row.public_key, 8, sizeof row.public_key);
        memset(row.key_id, 7, sizeof row.key_id);
        struct txn *t = begin_write(f);
        assert_int_equal(t_witness_get(t, "one", &got, &note), UL_NOT_FOUND);
        assert_int_equal(t_witness_put(t, "one", &row, "a note\n", 7), 0);
        assert_int_equal(t_witness_put(t, "two", &got, NULL, 0), 0);
        commit(&t);
        fixture_reopen(f);
        t = begin_read(f);
        assert_int_equal(t_witness_get(t, "one", &got, &note), 0);
        assert_memory_equal(&got, &row, sizeof row);
        assert_int_equal(note.len, 7);
        assert_memory_equal(note.data, "a note\n", 7);
        assert_int_equal(t_witness_get(t, "two", &got, &note), 0);
        assert_int_equal(got.size, 0);
        assert_int_equal(note.len, 7);
        assert_int_equal(t_witness_get(t, "one", &got, NULL), 0);
        txn_abort(&t);
        buf_free(&note, false);
}

static void a_row_of_another_form_is_damage(void **state)
{
        static const char *const bad[] = {"", "\1", "\2........................................"};
        struct fixture *f = *state;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                struct witness_row got;
                struct txn *t = begin_write(f);
                assert_int_equal(t_blob_put(t, "witness/x", bad[i], strlen(bad[i])), 0);
                assert_int_equal(t_witness_get(t, "x", &got, NULL), UL_CORRUPT);
                assert_int_equal(txn_error(t), UL_CORRUPT);
                txn_abort(&t);
        }
}

static void a_checkpoint_gathers_cosignatures_over_rounds(void **state)
{
        struct world w = make_world(*state);
        struct witness_round r;
        round_of(&w, 10, "cfc", 1000, &r);
        assert_int_equal(known(&w, 0, "02").size, 10);
        assert_int_equal(known(&w, 1, "").size, 0);
        assert_int_equal(known(&w, 2, "02").size, 10);
        round_of(&w, 10, "-c-", 1007, &r); /* the log has not grown; the second one is back */
        for (uint32_t i = 0; i < MANY; i++)
                assert_int_equal(known(&w, i, "012").size, 10);
        assert_int_equal(known(&w, 0, "012").time_s, 1000);
        assert_int_equal(known(&w, 1, "012").time_s, 1007);
        end_world(&w);
}

static void one_that_fails_keeps_what_all_cosigned_before(void **state)
{
        struct world w = make_world(*state);
        struct witness_round r;
        round_of(&w, 10, "ccc", 1000, &r);
        round_of(&w, 20, "cfc", 2000, &r);
        assert_int_equal(known(&w, 0, "02").size, 20);
        struct witness_row row = known(&w, 1, "012");
        assert_true(row.size == 10 && row.failures == 1 && row.outcome == WITNESS_TIMEOUT &&
                    row.time_s == 1000 && row.attempt_ms >= row.cosigned_ms);
        round_of(&w, 30, "cfc", 3000, &r);
        assert_int_equal(known(&w, 1, "012").failures, 2);
        round_of(&w, 30, "-c-", 3001, &r);
        row = known(&w, 1, "012");
        assert_true(row.size == 30 && row.failures == 0 && row.outcome == WITNESS_COSIGNED);
        end_world(&w);
}

static void it_is_news_when_one_fares_otherwise(void **state)
{
        static const struct {
                const char *outcome;
                bool news;
        } steps[] = {{"f--", true}, {"f--", false}, {"c--", true}, {"c--", false},
                     {"f--", true}, {"f--", false}, {"c--", true}};
        struct world w = make_world(*state);
        struct witness_round r;
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
                round_of(&w, 10 + i, steps[i].outcome, 1000, &r);
                assert_int_equal(r.result[0].news, steps[i].news);
        }
        end_world(&w);
}

static void another_key_begins_anew(void **state)
{
        struct world w = make_world(*state);
        struct witness_round r;
        round_of(&w, 10, "ccc", 1000, &r);
        name_witness(w.s, 1, seeds[MANY]);
        assert_int_equal(known(&w, 1, "").size, 0);
        name_witness(w.s, 1, seeds[1]); /* and the row is its own again */
        assert_int_equal(known(&w, 1, "012").size, 10);
        end_world(&w);
}

static int init(void **state)
{
        (void)state;
        return crypto_init();
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                CASE(a_row_comes_back_as_it_was),
                CASE(a_row_of_another_form_is_damage),
                CASE(a_checkpoint_gathers_cosignatures_over_rounds),
                CASE(one_that_fails_keeps_what_all_cosigned_before),
                CASE(it_is_news_when_one_fares_otherwise),
                CASE(another_key_begins_anew),
        };
        return cmocka_run_group_tests(tests, init, NULL);
}
