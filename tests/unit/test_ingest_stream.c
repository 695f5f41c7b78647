/* SPDX-License-Identifier: Apache-2.0
 * What all uploads share, shown with NDJSON: the bytes may arrive in any pieces and the receiver
 * may stop at any row (no row is lost or told twice), compression, limits, and that no buffer keeps
 * what was uploaded (invariant 5 of DESIGN.md). */
#include "tests/unit/ingest_harness.h"

#include "lib/records/ingest_private.h"
#include "lib/util/limits.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct encoding numbers = {
        .shape = {0, 3, 0}, .classes = 3, .labels = (const char *const[]){"0", "1.5", "cat"}};
static const struct encoding text = {.shape = {1, 64, 0},
                                     .encoder = 1,
                                     .classes = 2,
                                     .labels = (const char *const[]){"ham", "spam"}};

static struct ingest_options options(const struct encoding *enc)
{
        return (struct ingest_options){.format = INGEST_NDJSON,
                                       .encoding = enc,
                                       .pseudonym_key = harness_key,
                                       .labels_required = true};
}

static struct run *run_text(const struct encoding *enc, const char *lines)
{
        struct run *r = calloc(1, sizeof *r);
        assert_non_null(r);
        r->o = options(enc);
        harness_run(r, lines, strlen(lines));
        return r;
}

static void features_are(const struct event *ev, const struct encoding *enc, const float *want)
{
        float have[64];
        row_widen(&enc->shape, ev->row, have);
        assert_memory_equal(have, want, enc->shape.features * sizeof *have);
}

static const char mixed[] = "{\"id\":\"a\",\"label\":0,\"features\":[1,2,3]}\n"
                            "\n  \r\n"
                            "{\"id\":\"b\",\"label\":0,\"features\":[1,2]}\n"
                            "garbage\n"
                            "{\"id\":\"\xc3\xa9\",\"label\":\"cat\",\"features\":[4,5,6]}\r\n"
                            "{\"id\":\"last\",\"label\":0,\"features\":[7,8,9]}";

static void assert_mixed(const struct run *r)
{
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 5);
        harness_row_is(&r->events[0], 1, "a", NULL);
        harness_bad_is(&r->events[1], 4, UL_INVALID, "/features");
        harness_bad_is(&r->events[2], 5, UL_SYNTAX, "");
        harness_row_is(&r->events[3], 6, "\xc3\xa9", NULL);
        harness_row_is(&r->events[4], 7, "last", NULL);
}

static void no_row_is_lost_or_told_twice_however_the_bytes_arrive(void **state)
{
        (void)state;
        struct run r = {.o = options(&numbers)};
        harness_all_cuts(&r, mixed, sizeof mixed - 1);
        assert_mixed(&r);
}

static void compressed_rows_are_the_same_however_the_bytes_arrive(void **state)
{
        (void)state;
        for (int kind = INGEST_GZIP; kind <= INGEST_ZSTD; kind++) {
                struct buf b = {0};
                struct run r = {.o = options(&numbers)};
                r.o.compression = (enum ingest_compression)kind;
                /* three members, cut within lines, one of them empty */
                harness_compress(r.o.compression, mixed, 100, &b);
                harness_compress(r.o.compression, "", 0, &b);
                harness_compress(r.o.compression, mixed + 100, sizeof mixed - 1 - 100, &b);
                harness_all_cuts(&r, b.data, b.len);
                assert_mixed(&r);
                buf_free(&b, false);
        }
}

static void many_rows_in_one_window_survive_stopping_at_each(void **state)
{
        (void)state;
        struct buf lines = {0}, b = {0};
        for (int i = 0; i < 250; i++)
                buf_printf(&lines, "{\"id\":\"r%d\",\"label\":0,\"features\":[%d,0,%900d.5]}\n", i,
                           i, 1);
        for (int kind = INGEST_GZIP; kind <= INGEST_ZSTD; kind++) {
                struct run *r = calloc(1, sizeof *r);
                assert_non_null(r);
                r->o = options(&numbers);
                r->o.compression = (enum ingest_compression)kind;
                buf_reset(&b, false);
                harness_compress(r->o.compression, lines.data, lines.len, &b);
                for (int lazy = 0; lazy < 2; lazy++) {
                        r->again = true;
                        r->lazy = lazy == 1;
                        harness_run(r, b.data, b.len);
                        assert_int_equal(r->err, 0);
                        assert_int_equal(r->count, 250);
                        for (uint32_t i = 0; i < 250; i++) {
                                char id[16];
                                (void)snprintf(id, sizeof id, "r%u", i);
                                harness_row_is(&r->events[i], i + 1, id, NULL);
                                features_are(&r->events[i], &numbers,
                                             (const float[]){(float)i, 0, 1.5f});
                        }
                }
                free(r);
        }
        buf_free(&b, false);
        buf_free(&lines, false);
}

static void truncation_of_a_compressed_stream_is_noticed_at_every_byte(void **state)
{
        (void)state;
        for (int kind = INGEST_GZIP; kind <= INGEST_ZSTD; kind++) {
                struct buf b = {0};
                struct run *r = calloc(1, sizeof *r);
                assert_non_null(r);
                r->o = options(&numbers);
                r->o.compression = (enum ingest_compression)kind;
                harness_compress(r->o.compression, mixed, sizeof mixed - 1, &b);
                const size_t one = b.len;
                harness_compress(r->o.compression, mixed, sizeof mixed - 1, &b);
                for (size_t len = 0; len < b.len; len++) {
                        harness_run(r, b.data, len);
                        assert_int_equal(r->err, len == one ? 0 : UL_SYNTAX);
                }
                free(r);
                buf_free(&b, false);
        }
}

static void trailing_garbage_and_damage_are_refused(void **state)
{
        (void)state;
        for (int kind = INGEST_GZIP; kind <= INGEST_ZSTD; kind++) {
                struct buf b = {0};
                struct run *r = calloc(1, sizeof *r);
                assert_non_null(r);
                r->o = options(&numbers);
                r->o.compression = (enum ingest_compression)kind;
                harness_compress(r->o.compression, mixed, sizeof mixed - 1, &b);
                const size_t len = b.len;
                buf_append(&b, "\0\0\0\0garbage", 11);
                for (size_t more = 1; more <= 11; more++) {
                        harness_run(r, b.data, len + more);
                        assert_int_equal(r->err, UL_SYNTAX);
                }
                harness_run(r, "plain text", 10);
                assert_int_equal(r->err, UL_SYNTAX);
                if (kind == INGEST_GZIP) { /* its checksum covers every byte of the content */
                        for (size_t i = len - 8; i < len - 4; i++) {
                                b.data[i] ^= 1;
                                harness_run(r, b.data, len);
                                assert_int_equal(r->err, UL_SYNTAX);
                                b.data[i] ^= 1;
                        }
                }
                free(r);
                buf_free(&b, false);
        }
}

/* The library still decodes what it wrote before the format was an RFC; nobody needs to. */
static void a_zstd_format_of_before_the_rfc_is_refused_however_it_is_cut(void **state)
{
        static const uint8_t legacy[] = {0x26, 0xb5, 0x2f, 0xfd, 1,    0,    0, 0xff,
                                         0xff, 0xff, 0xff, 0xff, 0xff, 0x5f, 0, 0};
        (void)state;
        for (size_t piece = 1; piece <= sizeof legacy; piece++) {
                struct inflater *z = NULL;
                struct errinfo e = {0};
                uint8_t out[64];
                size_t used = 0, made = 0;
                int err = inflater_create(INGEST_ZSTD, &z, &e);
                for (size_t at = 0; err == 0 && at < sizeof legacy; at += used) {
                        size_t n = sizeof legacy - at < piece ? sizeof legacy - at : piece;
                        err = inflater_run(z, legacy + at, n, &used, out, sizeof out, &made, &e);
                }
                assert_int_equal(err, UL_SYNTAX);
                inflater_destroy(&z);
        }
}

static void a_zstd_window_over_the_limit_is_refused(void **state)
{
        (void)state;
        /* magic; no single segment, no content size; window descriptor: 2^28 */
        static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, (28 - 10) << 3, 1, 0, 0};
        struct run r = {.o = options(&numbers)};
        r.o.compression = INGEST_ZSTD;
        harness_run(&r, frame, sizeof frame);
        assert_int_equal(r.err, UL_SYNTAX);
        assert_non_null(strstr(r.e.detail, "window"));
}

static void a_bomb_costs_no_memory_and_is_unpacked_a_little_a_call(void **state)
{
        (void)state;
        enum { MIB = 1024 * 1024, CALL_MAX = MIB };
        char *zeros = calloc(256, MIB);
        assert_non_null(zeros);
        memset(zeros, 'x', (size_t)256 * MIB);
        for (int kind = INGEST_GZIP; kind <= INGEST_ZSTD; kind++) {
                struct buf b = {0};
                struct rusage before, after;
                struct run *r = calloc(1, sizeof *r);
                assert_non_null(r);
                r->o = options(&numbers);
                r->o.compression = (enum ingest_compression)kind;
                harness_compress(r->o.compression, zeros, (size_t)256 * MIB, &b);
                assert_true(b.len < MIB);
                assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
                harness_run(r, b.data, b.len);
                assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
                assert_int_equal(r->err, 0);
                assert_int_equal(r->count, 1); /* one line, and far too long */
                harness_bad_is(&r->events[0], 1, UL_TOO_LARGE, "");
                assert_true(r->turns >= 256 * MIB / CALL_MAX - 1);
                assert_true(after.ru_maxrss - before.ru_maxrss < 64 * 1024); /* KiB */
                free(r);
                buf_free(&b, false);
        }
        free(zeros);
}

static void a_line_over_the_limit_is_skipped_to_its_end(void **state)
{
        (void)state;
        static const char good[] = "{\"id\":\"a\",\"label\":0,\"features\":[1,2,3]}";
        for (int extra = 0; extra <= 1; extra++) {
                struct buf b = {0};
                buf_append_str(&b, good);
                buf_append_str(&b, "\n");
                /* padded with spaces to the limit, or one over it */
                buf_append_str(&b, good);
                const size_t pad = NDJSON_LINE_MAX - (sizeof good - 1) + (size_t)extra;
                memset(buf_extend(&b, pad), ' ', pad);
                buf_append_str(&b, "\n");
                buf_append_str(&b, good);
                static const size_t chunks[] = {0, 1000, 65536, NDJSON_LINE_MAX};
                for (size_t c = 0; c < 4; c++) {
                        struct run *r = calloc(1, sizeof *r);
                        assert_non_null(r);
                        r->o = options(&numbers);
                        r->chunk = chunks[c];
                        r->again = c == 1;
                        harness_run(r, b.data, b.len);
                        assert_int_equal(r->err, 0);
                        assert_int_equal(r->count, 3);
                        harness_row_is(&r->events[0], 1, "a", NULL);
                        if (extra)
                                harness_bad_is(&r->events[1], 2, UL_TOO_LARGE, "");
                        else
                                harness_row_is(&r->events[1], 2, "a", NULL);
                        harness_row_is(&r->events[2], 3, "a", NULL);
                        free(r);
                }
                buf_free(&b, false);
        }
}

static void an_overlong_last_line_is_told_once(void **state)
{
        (void)state;
        struct buf b = {0};
        memset(buf_extend(&b, NDJSON_LINE_MAX + 5), '[', NDJSON_LINE_MAX + 5);
        for (int again = 0; again < 2; again++) {
                struct run *r = calloc(1, sizeof *r);
                assert_non_null(r);
                r->o = options(&numbers);
                r->again = again == 1;
                harness_run(r, b.data, b.len);
                assert_int_equal(r->err, 0);
                assert_int_equal(r->count, 1);
                harness_bad_is(&r->events[0], 1, UL_TOO_LARGE, "");
                free(r);
        }
        buf_free(&b, false);
}

static void nothing_is_no_rows(void **state)
{
        (void)state;
        struct run *r = run_text(&numbers, "");
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 0);
        free(r);
}

static void an_error_of_the_receiver_ends_the_upload(void **state)
{
        (void)state;
        struct run r = {.o = options(&numbers), .fail_with = UL_NOSPACE};
        harness_run(&r, mixed, sizeof mixed - 1);
        assert_int_equal(r.err, UL_NOSPACE);
        assert_int_equal(r.count, 1);
}

static void invalid_utf8_and_nul_are_refused(void **state)
{
        (void)state;
        static const char line[] = "{\"id\":\"a\xff\",\"label\":0,\"features\":[1,2,3]}\n"
                                   "{\"id\":\"a\0b\",\"label\":0,\"features\":[1,2,3]}\n"
                                   "{\"id\":\"a\\u0000b\",\"label\":0,\"features\":[1,2,3]}\n"
                                   "{\"id\":\"b\",\"label\":0,\"features\":[1,2,\0003]}\n"
                                   "{\"id\":\"c\",\"label\":0,\"features\":[1,2,3]}\0\n";
        struct run r = {.o = options(&numbers)};
        harness_run(&r, line, sizeof line - 1);
        assert_int_equal(r.count, 5);
        for (int i = 0; i < 5; i++)
                assert_true(r.events[i].bad);
}

/* --- invariant 5: nothing is left --- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SCANNABLE false /* shadow memory is too large to read */
#else
#define SCANNABLE true
#endif

/* The marker is kept apart from itself, so that the scan does not find the scanner. */
static void make_marker(char out[17])
{
        for (int i = 0; i < 16; i++)
                out[i] = (char)("Qwertz-Marker-77"[i] ^ 0x15);
        out[16] = '\0';
}

/* How often the marker stands in the heap and anonymous memory of this process. */
static int scan_memory(void)
{
        enum { BLOCK = 1 << 20 };
        char marker[17], line[512], name[256];
        unsigned long from, to;
        int found = 0;
        make_marker(marker);
        uint8_t *block =
                mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(block != MAP_FAILED);
        int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
        FILE *maps = fopen("/proc/self/maps", "r");
        assert_true(mem >= 0 && maps != NULL);
        while (fgets(line, sizeof line, maps) != NULL) {
                name[0] = '\0';
                if (sscanf(line, "%lx-%lx rw-p %*s %*s %*s %255s", &from, &to, name) < 2 ||
                    (name[0] != '\0' && strcmp(name, "[heap]") != 0))
                        continue;
                while (from < to) {
                        const size_t n = to - from < BLOCK ? to - from : BLOCK;
                        if (pread(mem, block, n, (off_t)from) != (ssize_t)n)
                                break;
                        for (const uint8_t *p = block;
                             (p = memmem(p, n - (size_t)(p - block), marker, 16)) != NULL; p++)
                                found++;
                        from += n;
                }
        }
        assert_int_equal(fclose(maps), 0);
        assert_int_equal(close(mem), 0);
        assert_int_equal(munmap(block, BLOCK), 0);
        wipe(marker, sizeof marker);
        return found;
}

/* In a process of its own: the compressors' memory is not what is under test. */
static void compress_apart(enum ingest_compression kind, const struct buf *plain, struct buf *out)
{
        enum { ROOM = 60000 }; /* fits a pipe */
        int ends[2], status;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                struct buf c = {0};
                harness_compress(kind, plain->data, plain->len, &c);
                _exit(c.len < ROOM && write(ends[1], c.data, c.len) == (ssize_t)c.len ? 0 : 1);
        }
        assert_int_equal(close(ends[1]), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        const ssize_t n = read(ends[0], buf_extend(out, ROOM), ROOM);
        assert_true(n > 0);
        out->len = (size_t)n;
        assert_int_equal(close(ends[0]), 0);
}

/* An upload whose every text is the marker, in pieces too small to hold it. */
static void upload_marker(enum ingest_format format, enum ingest_compression kind, bool whole)
{
        struct run *r = calloc(1, sizeof *r);
        struct buf b = {.max = 1 << 20}, c = {.max = 1 << 20};
        char m[17];
        assert_non_null(r);
        make_marker(m);
        /* ndjson: rows of features, and of text, which are refused */
        r->o = options(format == INGEST_CSV ? &text : &numbers);
        r->o.format = format;
        r->o.compression = kind;
        r->chunk = 7;
        b.data = malloc(1 << 17); /* the test's own buffers must not grow and leave copies */
        b.cap = 1 << 17;
        if (format == INGEST_CSV)
                buf_append_str(&b, "id,subject,label,text\n");
        for (int i = 0; i < 200; i++) {
                if (format == INGEST_CSV)
                        buf_printf(&b, "%s%d,%s,ham,\"%s \"\"x\"\" %s\"\n", m, i, m, m, m);
                else if (i % 2 == 0)
                        buf_printf(&b,
                                   "{\"id\":\"%s%d\",\"subject\":\"%s\",\"features\":[1,2,3],"
                                   "\"label\":\"cat\"}\n",
                                   m, i, m);
                else
                        buf_printf(&b,
                                   "{\"id\":\"%s%d\",\"subject\":\"%s\",\"label\":\"ham\","
                                   "\"text\":\"%s\"}\n",
                                   m, i, m, m);
        }
        buf_printf(&b, format == INGEST_CSV ? "\"%s\"\"%s" : "{\"id\":\"%s\",\"%s", m, m);
        if (kind != INGEST_PLAIN)
                compress_apart(kind, &b, &c);
        const struct buf *sent = kind == INGEST_PLAIN ? &b : &c;
        harness_run(r, sent->data, whole ? sent->len : sent->len - sent->len / 4);
        assert_true(r->count > 0);
        wipe(m, sizeof m);
        buf_free(&b, true);
        buf_free(&c, true);
        free(r);
}

static void no_buffer_keeps_what_was_uploaded(void **state)
{
        (void)state;
        if (!SCANNABLE)
                skip();
        char *witness = malloc(17);
        assert_non_null(witness);
        make_marker(witness);
        assert_true(scan_memory() >= 1); /* the scan sees what there is */
        wipe(witness, 17);
        free(witness);
        assert_int_equal(scan_memory(), 0);
        for (int format = INGEST_NDJSON; format <= INGEST_CSV; format++) {
                for (int kind = INGEST_PLAIN; kind <= INGEST_GZIP; kind++) {
                        for (int whole = 0; whole < 2; whole++) {
                                upload_marker((enum ingest_format)format,
                                              (enum ingest_compression)kind, whole == 1);
                                assert_int_equal(scan_memory(), 0);
                        }
                }
                /* zstd tells nothing of a block before it is whole */
                upload_marker((enum ingest_format)format, INGEST_ZSTD, true);
                assert_int_equal(scan_memory(), 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(no_buffer_keeps_what_was_uploaded),
                cmocka_unit_test(no_row_is_lost_or_told_twice_however_the_bytes_arrive),
                cmocka_unit_test(compressed_rows_are_the_same_however_the_bytes_arrive),
                cmocka_unit_test(many_rows_in_one_window_survive_stopping_at_each),
                cmocka_unit_test(truncation_of_a_compressed_stream_is_noticed_at_every_byte),
                cmocka_unit_test(trailing_garbage_and_damage_are_refused),
                cmocka_unit_test(a_zstd_format_of_before_the_rfc_is_refused_however_it_is_cut),
                cmocka_unit_test(a_zstd_window_over_the_limit_is_refused),
                cmocka_unit_test(a_bomb_costs_no_memory_and_is_unpacked_a_little_a_call),
                cmocka_unit_test(a_line_over_the_limit_is_skipped_to_its_end),
                cmocka_unit_test(an_overlong_last_line_is_told_once),
                cmocka_unit_test(nothing_is_no_rows),
                cmocka_unit_test(an_error_of_the_receiver_ends_the_upload),
                cmocka_unit_test(invalid_utf8_and_nul_are_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
