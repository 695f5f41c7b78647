/* SPDX-License-Identifier: Apache-2.0
 * The scanner on directories made by hand: every form of an id and every type of a row is found at
 * the offset where it was put, also across the blocks that files are read in; what has another
 * explanation is told as such; what cannot be read or looked for is said. */
#include "lib/checkpoint/checkpoint.h"
#include "lib/records/encode.h"
#include "lib/scan/scan.h"
#include "lib/util/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { BLOCK = 1024 * 1024, FINDINGS_MAX = 256 };

static const uint8_t key[KEY_BYTES] = {9, 8, 7};
static char dir[PATH_SIZE];

/* What one scan told. */
struct told {
        size_t count, unsearchable, unread;
        struct {
                enum scan_kind kind;
                bool trace, in_name;
                uint64_t offset;
                char who[SCAN_WHO_MAX], what[96], path[PATH_SIZE];
        } finding[FINDINGS_MAX];
        struct scan *scan;
        bool with_key, image;
};

static void on_found(void *arg, const struct scan_finding *f)
{
        struct told *t = arg;
        assert_true(t->count < FINDINGS_MAX);
        t->finding[t->count].kind = f->kind;
        t->finding[t->count].trace = f->trace;
        t->finding[t->count].in_name = f->in_name;
        t->finding[t->count].offset = f->offset;
        (void)snprintf(t->finding[t->count].who, SCAN_WHO_MAX, "%s", f->who);
        (void)snprintf(t->finding[t->count].what, 96, "%s", f->what);
        (void)snprintf(t->finding[t->count].path, PATH_SIZE, "%s", f->path);
        t->count++;
}

static void on_unsearchable(void *arg, const char *who, const char *why)
{
        struct told *t = arg;
        assert_true(who[0] != '\0' && why[0] != '\0');
        t->unsearchable++;
}

static void on_unread(void *arg, const char *path, const char *why)
{
        struct told *t = arg;
        assert_true(path[0] != '\0' && why[0] != '\0');
        t->unread++;
}

static void begin(struct told *t, bool with_key)
{
        const struct scan_events events = {on_found, on_unsearchable, on_unread, t};
        memset(t, 0, sizeof *t);
        assert_int_equal(scan_create(dir, with_key ? key : NULL, &events, &t->scan, NULL), 0);
}

static void look_for_record(struct told *t, const char *id)
{
        assert_int_equal(scan_record(t->scan, id, strlen(id), "the record", NULL), 0);
}

static void look_for_line(struct told *t, const char *line)
{
        struct json *doc = NULL;
        assert_int_equal(json_parse(line, strlen(line), &doc, NULL), 0);
        assert_int_equal(scan_line(t->scan, doc, line, strlen(line), "the line", NULL), 0);
        json_free(&doc);
}

static void end(struct told *t)
{
        assert_int_equal(scan_directory(t->scan, NULL), 0);
        const struct scan_totals *all = scan_totals(t->scan);
        assert_int_equal(all->unread, t->unread);
        assert_int_equal(all->unsearchable, t->unsearchable);
        assert_int_equal(all->traces + all->explained, t->count);
        scan_destroy(&t->scan);
}

static struct told *new_told(void)
{
        struct told *t = calloc(1, sizeof *t);
        assert_non_null(t);
        return t;
}

/* --- files --- */

static void path_of(const char *name, char out[PATH_SIZE])
{
        assert_int_equal(path_format(out, NULL, "%s/%s", dir, name), 0);
}

static void put(const char *name, const void *data, size_t len)
{
        char path[PATH_SIZE];
        path_of(name, path);
        assert_int_equal(write_file_durably(path, data, len, NULL), 0);
}

/* The bytes between others, which are no word's, at `offset` of a file. */
static void put_at(const char *name, uint64_t offset, const void *data, size_t len)
{
        char path[PATH_SIZE];
        path_of(name, path);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, 3 * BLOCK + 500), 0);
        assert_int_equal(write_at(fd, data, len, offset, NULL), 0);
        (void)close(fd);
}

static int make_dir(void **state)
{
        const char *tmp = getenv("TMPDIR");
        (void)state;
        if (path_format(dir, NULL, "%s/test_scan.XXXXXX", tmp != NULL ? tmp : "/tmp") != 0)
                return -1;
        return mkdtemp(dir) == NULL ? -1 : 0;
}

static int remove_dir(void **state)
{
        (void)state;
        return scrub_tree(dir, NULL);
}

static const char record_id[] = "anna.müller@example.org";

/* --- ids --- */

static void expect_at(const char *what, const void *bytes, size_t len)
{
        struct told *t = new_told();
        char file[PATH_SIZE];
        put_at("planted", 12344, "#", 1); /* UTF-16 of either order begins or ends with a zero */
        put_at("planted", 12345, bytes, len);
        begin(t, true);
        look_for_record(t, record_id);
        end(t);
        assert_true(t->count >= 1);
        assert_int_equal(t->finding[0].offset, 12345);
        assert_string_equal(t->finding[0].what, what);
        assert_string_equal(t->finding[0].who, "the record");
        assert_true(t->finding[0].trace);
        path_of("planted", file);
        assert_string_equal(t->finding[0].path, file);
        assert_int_equal(t->unread + t->unsearchable, 0);
        assert_int_equal(unlink(file), 0);
        free(t);
}

static void every_form_of_an_id_is_found(void **state)
{
        static const char escaped[] = "anna.m\\u00fcller@example.org";
        static const char percent[] = "anna.m%C3%BCller%40example.org";
        static const char lower[] = "anna.m%c3%bcller%40example.org";
        uint8_t digest[SHA256_BYTES], pseudonym[PSEUDONYM_BYTES], wide[2 * sizeof record_id];
        char hex[2 * SHA256_BYTES + 1], text[64];
        size_t n = 0;
        (void)state;
        expect_at("id", record_id, strlen(record_id));
        expect_at("id, escaped for JSON in ASCII", escaped, strlen(escaped));
        expect_at("id, percent-encoded", percent, strlen(percent));
        expect_at("id, percent-encoded", lower, strlen(lower));
        for (const char *p = record_id; *p != '\0';
             p++) { /* the one letter beyond ASCII is U+00FC */
                if (*p == '\xc3')
                        continue;
                wide[n++] = *p == '\xbc' ? 0xfc : (uint8_t)*p;
                wide[n++] = 0;
        }
        expect_at("id, as UTF-16", wide, n);
        sha256(record_id, strlen(record_id), digest);
        expect_at("SHA-256 of the id", digest, sizeof digest);
        hex_encode(digest, sizeof digest, hex);
        expect_at("SHA-256 of the id, in hex", hex, strlen(hex));
        base64_encode(digest, sizeof digest, text);
        expect_at("SHA-256 of the id, in base64", text, strlen(text));
        pseudonym_of(key, record_id, strlen(record_id), pseudonym);
        expect_at("pseudonym", pseudonym, sizeof pseudonym);
        hex_encode(pseudonym, sizeof pseudonym, hex);
        expect_at("pseudonym, in hex", hex, strlen(hex));
        for (char *p = hex; *p != '\0'; p++)
                *p = (char)(*p >= 'a' ? *p - 'a' + 'A' : *p);
        expect_at("pseudonym, in hex", hex, strlen(hex));
}

static void a_quoted_id_is_found_in_its_json_form(void **state)
{
        struct told *t = new_told();
        (void)state;
        put("log", "{\"id\":\"the \\\"boss\\\" himself\"}", 29);
        begin(t, false);
        look_for_record(t, "the \"boss\" himself");
        end(t);
        assert_int_equal(t->count, 1);
        assert_string_equal(t->finding[0].what, "id, escaped for JSON");
        free(t);
}

static void a_trace_is_found_once_wherever_blocks_end(void **state)
{
        const size_t len = strlen(record_id);
        uint8_t *filler = malloc(3 * BLOCK + 500); /* no holes: blocks are counted from 0 */
        struct told *t = new_told();
        (void)state;
        assert_non_null(filler);
        memset(filler, '#', 3 * BLOCK + 500);
        put("dense", filler, 3 * BLOCK + 500);
        for (uint64_t block = 0; block < 3; block++) {
                for (int shift = -(int)len - 1; shift <= 1; shift++) {
                        const uint64_t at = (block + 1) * BLOCK + (uint64_t)(int64_t)shift;
                        put_at("dense", at, record_id, len);
                        begin(t, false);
                        look_for_record(t, record_id);
                        end(t);
                        assert_int_equal(t->count, 1);
                        assert_int_equal(t->finding[0].offset, at);
                        put_at("dense", at, filler, len);
                }
        }
        free(filler);
        free(t);
}

static void a_short_id_and_a_number_are_looked_for_as_whole_words(void **state)
{
        static const struct {
                const char *id, *text;
                bool found;
        } cases[] = {
                {"r3-5", " r3-5 ", true},         {"r3-5", "r3-5", true},
                {"r3-5", "(r3-5)", true},         {"r3-5", "\"r3-5\"", true},
                {"r3-5", "r3-5.", true},          {"r3-5", "r3-5@x", false},
                {"r3-5", "xr3-5 ", false},        {"r3-5", "r3-5.6", false},
                {"1764301", "1764301234", false}, {"1764301", "id=1764301&x", true},
                {"10000000", "x10000000", false}, {"anna@example.org", "xanna@example.orgx", true},
        };
        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct told *t = new_told();
                put("log", cases[i].text, strlen(cases[i].text));
                begin(t, false);
                look_for_record(t, cases[i].id);
                end(t);
                assert_int_equal(t->count, cases[i].found);
                free(t);
        }
}

static void a_word_that_a_block_begins_in_is_no_whole_one(void **state)
{
        uint8_t *filler = malloc(2 * BLOCK);
        struct told *t = new_told();
        (void)state;
        assert_non_null(filler);
        memset(filler, '#', 2 * BLOCK);
        memcpy(filler + BLOCK - 1, "xr3-5", 5);
        put("dense", filler, 2 * BLOCK);
        begin(t, false);
        look_for_record(t, "r3-5");
        end(t);
        assert_int_equal(t->count, 0);
        free(filler);
        free(t);
}

static void an_id_in_a_files_name_is_a_trace_and_not_repeated(void **state)
{
        struct told *t = new_told();
        char name[PATH_SIZE];
        (void)state;
        assert_int_equal(path_format(name, NULL, "%s.txt", record_id), 0);
        put(name, "x", 1);
        begin(t, false);
        look_for_record(t, record_id);
        end(t);
        assert_int_equal(t->count, 1);
        assert_true(t->finding[0].in_name && t->finding[0].trace);
        assert_null(strstr(t->finding[0].path, record_id));
        free(t);
}

static void a_pseudonym_is_bookkeeping_in_the_database_and_the_ledger_alone(void **state)
{
        uint8_t pseudonym[PSEUDONYM_BYTES];
        struct told *t = new_told();
        (void)state;
        pseudonym_of(key, record_id, strlen(record_id), pseudonym);
        put("control.mdb", pseudonym, sizeof pseudonym);
        put("erasures.ledger", pseudonym, sizeof pseudonym);
        put("other", pseudonym, sizeof pseudonym);
        begin(t, true);
        look_for_record(t, record_id);
        end(t);
        assert_int_equal(t->count, 3);
        assert_false(t->finding[0].trace);
        assert_false(t->finding[1].trace);
        assert_true(t->finding[2].trace);
        free(t);
}

/* --- rows --- */

enum { FEATURES = 96 };
static const char *const shard_dir = "models/m/shard-000";

static float feature(uint32_t dtype, uint32_t row, uint32_t i)
{
        uint8_t place[8], digest[SHA256_BYTES];
        put_le32(place, row);
        put_le32(place + 4, i);
        sha256(place, sizeof place, digest);
        const uint32_t v = get_le32(digest);
        if (dtype == 2)
                return (float)(v & 1);
        return dtype == 1 ? (float)(v & 255) : (float)(v & 0xffff) / 77.0f;
}

static void line_of(uint32_t dtype, uint32_t row, const char *id, struct buf *out)
{
        struct json_writer w;
        buf_reset(out, false);
        jw_init(&w, out);
        jw_object(&w);
        jw_key(&w, "id");
        jw_string(&w, id);
        jw_key(&w, "features");
        jw_array(&w);
        for (uint32_t i = 0; i < FEATURES; i++)
                jw_float(&w, feature(dtype, row, i));
        jw_end_array(&w);
        jw_end_object(&w);
        buf_append(out, "", 1);
        assert_false(out->failed);
        out->len--;
}

/* A row file of rows 0..n-1, whose ids are record-0 and so on. */
static void put_rows(uint32_t dtype, uint32_t slice, uint32_t first, uint32_t n)
{
        const struct row_shape shape = {.dtype = dtype, .features = FEATURES};
        const uint32_t width = row_bytes(&shape);
        struct rowfile *f = NULL;
        char path[PATH_SIZE], name[64];
        float x[FEATURES];
        uint8_t row[1024];
        path_of(shard_dir, path);
        assert_int_equal(make_dirs(path, NULL), 0);
        (void)snprintf(name, sizeof name, "%s/slice-%03u.rows", shard_dir, slice);
        path_of(name, path);
        assert_int_equal(rowfile_open(path, &shape, 0, slice, true, &f, NULL), 0);
        assert_true(width <= sizeof row);
        for (uint32_t k = 0; k < n; k++) {
                char id[32];
                memset(row, 0, sizeof row);
                (void)snprintf(id, sizeof id, "record-%u", first + k);
                pseudonym_of(key, id, strlen(id), row);
                for (uint32_t i = 0; i < FEATURES; i++)
                        x[i] = feature(dtype, first + k, i);
                assert_int_equal(encode_features(&shape, x, row, NULL), 0);
                row_seal(row, width);
                assert_int_equal(rowfile_append(f, k, row, 1, NULL), 0);
        }
        rowfile_close(&f);
}

static void patch(const char *name, uint64_t offset, const void *data, size_t len)
{
        char path[PATH_SIZE];
        path_of(name, path);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write_at(fd, data, len, offset, NULL), 0);
        (void)close(fd);
}

static void a_row_is_found_in_each_type_with_and_without_the_key(void **state)
{
        struct buf line = {0};
        (void)state;
        for (uint32_t dtype = 0; dtype < 3; dtype++) {
                const struct row_shape shape = {.dtype = dtype, .features = FEATURES};
                for (int with_key = 0; with_key < 2; with_key++) {
                        struct told *t = new_told();
                        put_rows(dtype, dtype + 1, 0, 5);
                        line_of(dtype, 3, "record-3", &line);
                        begin(t, with_key);
                        look_for_line(t, (const char *)line.data);
                        end(t);
                        assert_int_equal(t->count, 1);
                        assert_int_equal(t->finding[0].kind, SCAN_ROW);
                        assert_true(t->finding[0].trace);
                        assert_int_equal(t->finding[0].offset,
                                         ROWFILE_HEADER_BYTES + 3 * row_bytes(&shape));
                        assert_int_equal(t->unsearchable, 0);
                        free(t);
                }
                assert_int_equal(remove_dir(NULL), 0);
                assert_int_equal(mkdir(dir, 0700), 0);
        }
        buf_free(&line, true);
}

static void an_erased_row_leaves_nothing_and_a_part_of_it_is_found(void **state)
{
        const struct row_shape shape = {.dtype = 1, .features = FEATURES};
        const uint32_t width = row_bytes(&shape);
        static const uint8_t zero[1024];
        struct buf line = {0};
        struct told *t = new_told();
        (void)state;
        put_rows(1, 1, 0, 5);
        patch("models/m/shard-000/slice-001.rows", ROWFILE_HEADER_BYTES + 3 * width, zero, width);
        line_of(1, 3, "record-3", &line);
        begin(t, true);
        look_for_line(t, (const char *)line.data);
        end(t);
        assert_int_equal(t->count, 0);
        /* a file system's block that kept its features, and a tail that was not cut off */
        for (uint32_t i = 0; i < FEATURES; i++) {
                const uint8_t v = (uint8_t)feature(1, 3, i);
                put_at("block", 4000 + i, &v, 1);
        }
        begin(t, true);
        look_for_line(t, (const char *)line.data);
        end(t);
        assert_int_equal(t->count, 1);
        assert_string_equal(t->finding[0].what, "the features of the row");
        assert_int_equal(t->finding[0].offset, 4000);
        free(t);
        buf_free(&line, true);
}

static void a_row_whose_zeros_are_a_hole_is_found(void **state)
{
        enum { ZEROS = 40, REST = 40 };
        uint8_t rest[REST];
        char line[512];
        struct told *t = new_told();
        size_t n = (size_t)snprintf(line, sizeof line, "{\"id\":\"record-7\",\"features\":[0");
        (void)state;
        for (uint32_t i = 1; i < ZEROS + REST; i++) {
                const uint8_t v = i < ZEROS ? 0 : (uint8_t)(1 + i * 37);
                n += (size_t)snprintf(line + n, sizeof line - n, ",%u", v);
                if (i >= ZEROS)
                        rest[i - ZEROS] = v;
        }
        (void)snprintf(line + n, sizeof line - n, "]}");
        put_at("sparse", 2 * BLOCK, rest, sizeof rest); /* and nothing before it */
        begin(t, false);
        look_for_line(t, line);
        end(t);
        assert_int_equal(t->count, 1);
        assert_int_equal(t->finding[0].offset, 2 * BLOCK - ZEROS);
        free(t);
}

static void a_damaged_row_is_no_alibi(void **state)
{
        const struct row_shape shape = {.dtype = 1, .features = FEATURES};
        const uint32_t width = row_bytes(&shape);
        struct buf line = {0};
        struct told *t = new_told();
        (void)state;
        put_rows(1, 1, 0, 5);
        patch("models/m/shard-000/slice-001.rows", ROWFILE_HEADER_BYTES + 3 * width, "damage", 6);
        line_of(1, 3, "record-3", &line);
        begin(t, true);
        look_for_line(t, (const char *)line.data);
        end(t);
        assert_int_equal(t->count, 1);
        assert_true(t->finding[0].trace);
        assert_string_equal(t->finding[0].what, "the row, or a part of it, in a damaged row");
        free(t);
        buf_free(&line, true);
}

static void an_equal_row_of_another_record_is_explained_with_the_key_alone(void **state)
{
        struct buf line = {0};
        (void)state;
        put_rows(1, 1, 0, 5);
        line_of(1, 3, "somebody.else", &line);
        for (int with_key = 0; with_key < 2; with_key++) {
                struct told *t = new_told();
                begin(t, with_key);
                look_for_line(t, (const char *)line.data);
                end(t);
                assert_int_equal(t->count, 1);
                assert_int_equal(t->finding[0].trace, !with_key);
                free(t);
        }
        buf_free(&line, true);
}

static void a_part_that_another_intact_row_shares_is_no_finding(void **state)
{
        /* f32: three pieces; the last feature alone is another one */
        struct buf line = {0};
        struct told *t = new_told();
        (void)state;
        put_rows(0, 1, 0, 5);
        line_of(0, 3, "somebody.else", &line);
        char *last = strrchr((char *)line.data, ',');
        assert_non_null(last);
        (void)snprintf(last, line.len - (size_t)(last - (char *)line.data), ",1]}");
        begin(t, false);
        look_for_line(t, (const char *)line.data);
        end(t);
        assert_int_equal(t->count, 0);
        free(t);
        buf_free(&line, true);
}

static void what_is_too_uniform_is_said_to_be_not_searchable(void **state)
{
        static const char *const rows[] = {"[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]", "[1]",
                                           "[7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7]",
                                           "[0,0,0,0,0,0,0,9,0,0,0,0,0,0,0,0]"};
        (void)state;
        put("file", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 18);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct told *t = new_told();
                char line[256];
                (void)snprintf(line, sizeof line, "{\"id\":\"somebody.else\",\"features\":%s}",
                               rows[i]);
                begin(t, false);
                look_for_line(t, line);
                end(t);
                assert_int_equal(t->count, 0);
                assert_int_equal(t->unsearchable, 1);
                free(t);
        }
}

/* --- texts --- */

static const char text_line[] =
        "{\"id\":\"letter-17.txt\",\"text\":\"Dear Madam, my account is DE89370400440532013000 and "
        "I would like to cancel the subscription immediately. Yours, Anna\"}";

static void a_piece_of_a_text_and_its_numbers_are_traces_and_a_word_is_none(void **state)
{
        static const struct {
                const char *left;
                enum scan_kind kind;
                bool trace;
        } cases[] = {
                {"... and I would like to cancel the subscription immediately ...", SCAN_TEXT,
                 true},
                {"account=DE89370400440532013000;", SCAN_TOKEN, true},
                {"please cancel no subscription today", SCAN_WORD, false},
        };
        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct told *t = new_told();
                size_t traces = 0;
                put("left", cases[i].left, strlen(cases[i].left));
                begin(t, false);
                look_for_line(t, text_line);
                end(t);
                assert_true(t->count >= 1);
                for (size_t k = 0; k < t->count; k++)
                        traces += t->finding[k].trace && t->finding[k].kind == cases[i].kind;
                assert_int_equal(traces > 0, cases[i].trace);
                if (!cases[i].trace)
                        assert_int_equal(t->finding[0].kind, cases[i].kind);
                free(t);
        }
}

static void the_hashed_row_of_a_text_is_found(void **state)
{
        enum { WIDTH = 256 };
        static const char text[] =
                "the quick brown fox jumps over the lazy dog while the cat sleeps "
                "under a warm and sunny window of an old house";
        static const char config[] =
                "____{\"name\":\"m\",\"kind\":\"softmax\",\"task\":\"classification\",\"encoder\":"
                "\"hash_text\",\"dtype\":\"u8\",\"features\":256,\"classes\":2,\"shards\":1,"
                "\"slices\":1,\"epochs\":1}____";
        const struct row_shape shape = {.dtype = 1, .features = WIDTH};
        float x[WIDTH];
        uint8_t row[WIDTH + 32] = {0};
        char line[512];
        struct told *t = new_told();
        (void)state;
        encode_text(text, strlen(text), WIDTH, x);
        assert_int_equal(encode_features(&shape, x, row, NULL), 0);
        put("file", row, row_bytes(&shape));
        put("control.mdb", config, sizeof config - 1);
        (void)snprintf(line, sizeof line, "{\"id\":\"letter-17.txt\",\"text\":\"%s\"}", text);
        begin(t, false);
        look_for_line(t, line);
        end(t);
        assert_true(t->count >= 1);
        assert_int_equal(t->finding[0].kind, SCAN_ROW);
        assert_int_equal(t->finding[0].offset, row_feature_offset(&shape));
        free(t);
}

/* --- checkpoints --- */

static int by_bytes(const void *a, const void *b)
{
        return memcmp(a, b, PSEUDONYM_BYTES);
}

/* A checkpoint of records 0..n-1. */
static void put_checkpoint(const char *name, uint32_t n)
{
        uint8_t all[16][PSEUDONYM_BYTES], hash[SHA256_BYTES];
        float parameters[4] = {1, 2, 3, 4};
        struct checkpoint c = {
                .slice = 1, .stage = 1, .records = n, .kernel = "SkylakeX", .tensor_count = 1};
        char path[PATH_SIZE], id[32];
        for (uint32_t i = 0; i < n; i++) {
                (void)snprintf(id, sizeof id, "record-%u", i);
                pseudonym_of(key, id, strlen(id), all[i]);
        }
        qsort(all, n, PSEUDONYM_BYTES, by_bytes);
        sha256(all, (size_t)n * PSEUDONYM_BYTES, c.retained);
        c.tensors[0] = (struct checkpoint_tensor){.name = "bias", .rows = 4, .data = parameters};
        path_of(name, path);
        assert_int_equal(checkpoint_write(path, &c, hash, NULL), 0);
}

static void a_checkpoint_of_the_records_that_are_there_is_clean(void **state)
{
        struct told *t = new_told();
        (void)state;
        put_rows(1, 1, 0, 5);
        put_checkpoint("models/m/shard-000/slice-001.ckpt", 5);
        begin(t, false);
        end(t);
        assert_int_equal(t->count, 0);
        free(t);
}

static void a_checkpoint_that_a_record_is_missing_from_is_found(void **state)
{
        struct told *t = new_told();
        (void)state;
        put_rows(1, 1, 0, 5);
        put_checkpoint("models/m/shard-000/slice-001.ckpt", 6); /* record-5 was erased */
        begin(t, true);
        look_for_record(t, "record-5");
        end(t);
        assert_int_equal(t->count, 1);
        assert_int_equal(t->finding[0].kind, SCAN_CHECKPOINT);
        assert_string_equal(t->finding[0].what, "a checkpoint that was trained on the record");
        assert_string_equal(t->finding[0].who, "the record");
        begin(t, true); /* of another record's account nothing explains it */
        look_for_record(t, "record-77");
        end(t);
        assert_int_equal(t->count, 1);
        assert_true(t->finding[0].trace);
        assert_string_equal(t->finding[0].who, "");
        free(t);
}

static void the_provenance_alone_tells_on_what_is_left_of_a_checkpoint(void **state)
{
        struct buf b = {0};
        char path[PATH_SIZE];
        struct told *t = new_told();
        (void)state;
        put_rows(1, 1, 0, 5);
        put_checkpoint("whole", 6);
        path_of("whole", path);
        assert_int_equal(read_file(path, 1 << 20, &b, NULL), 0);
        assert_int_equal(unlink(path), 0);
        put_at("fragment", BLOCK - 150, b.data + 150, b.len - 150); /* across two blocks */
        begin(t, true);
        look_for_record(t, "record-5");
        end(t);
        assert_int_equal(t->count, 1);
        assert_int_equal(t->finding[0].kind, SCAN_CHECKPOINT);
        buf_free(&b, false);
        free(t);
}

static void a_commitment_in_the_audit_log_is_history_and_no_checkpoint(void **state)
{
        static const char hex[] =
                "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        char entry[512];
        struct told *t = new_told();
        (void)state;
        int n = snprintf(entry, sizeof entry,
                         "{\"records\":3,\"checkpoint\":\"%s\",\"retained\":\"%s\"}", hex, hex);
        put("export.json", entry, (size_t)n);
        begin(t, true);
        end(t);
        assert_int_equal(t->count, 0);
        free(t);
}

/* --- what cannot be read --- */

static void what_is_not_read_is_told(void **state)
{
        struct told *t = new_told();
        char path[PATH_SIZE];
        (void)state;
        path_of("link", path);
        assert_int_equal(symlink("/etc/hostname", path), 0);
        path_of("pipe", path);
        assert_int_equal(mkfifo(path, 0600), 0);
        begin(t, false);
        look_for_record(t, record_id);
        end(t);
        assert_int_equal(t->unread, 2);
        assert_int_equal(t->count, 0);
        free(t);
}

static void a_directory_that_is_not_there_is_not_clean(void **state)
{
        const struct scan_events events = {on_found, on_unsearchable, on_unread, NULL};
        struct told *t = new_told();
        struct scan_events mine = events;
        char path[PATH_SIZE];
        (void)state;
        mine.arg = t;
        path_of("absent", path);
        assert_int_equal(scan_create(path, NULL, &mine, &t->scan, NULL), 0);
        assert_int_equal(scan_directory(t->scan, NULL), 0);
        assert_int_equal(t->unread, 1);
        scan_destroy(&t->scan);
        free(t);
}

static void a_record_that_is_none_is_refused(void **state)
{
        static const char *const bad[] = {"[]",
                                          "{}",
                                          "{\"id\":\"\"}",
                                          "{\"id\":7}",
                                          "{\"id\":\"x\",\"features\":[]}",
                                          "{\"id\":\"x\",\"features\":[\"a\"]}",
                                          "{\"id\":\"x\",\"features\":7}",
                                          "{\"id\":\"x\",\"text\":7}",
                                          "{\"id\":\"x\",\"columns\":[]}",
                                          "{\"id\":\"x\",\"features\":[1e300]}"};
        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct told *t = new_told();
                struct json *doc = NULL;
                struct errinfo e = {0};
                begin(t, true);
                assert_int_equal(json_parse(bad[i], strlen(bad[i]), &doc, NULL), 0);
                assert_int_equal(scan_line(t->scan, doc, bad[i], strlen(bad[i]), "x", &e),
                                 UL_INVALID);
                assert_true(e.detail[0] != '\0');
                json_free(&doc);
                scan_destroy(&t->scan);
                free(t);
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(every_form_of_an_id_is_found),
                TEST(a_quoted_id_is_found_in_its_json_form),
                TEST(a_trace_is_found_once_wherever_blocks_end),
                TEST(a_short_id_and_a_number_are_looked_for_as_whole_words),
                TEST(a_word_that_a_block_begins_in_is_no_whole_one),
                TEST(an_id_in_a_files_name_is_a_trace_and_not_repeated),
                TEST(a_pseudonym_is_bookkeeping_in_the_database_and_the_ledger_alone),
                TEST(a_row_is_found_in_each_type_with_and_without_the_key),
                TEST(an_erased_row_leaves_nothing_and_a_part_of_it_is_found),
                TEST(a_row_whose_zeros_are_a_hole_is_found),
                TEST(a_damaged_row_is_no_alibi),
                TEST(an_equal_row_of_another_record_is_explained_with_the_key_alone),
                TEST(a_part_that_another_intact_row_shares_is_no_finding),
                TEST(what_is_too_uniform_is_said_to_be_not_searchable),
                TEST(a_piece_of_a_text_and_its_numbers_are_traces_and_a_word_is_none),
                TEST(the_hashed_row_of_a_text_is_found),
                TEST(a_checkpoint_of_the_records_that_are_there_is_clean),
                TEST(a_checkpoint_that_a_record_is_missing_from_is_found),
                TEST(the_provenance_alone_tells_on_what_is_left_of_a_checkpoint),
                TEST(a_commitment_in_the_audit_log_is_history_and_no_checkpoint),
                TEST(what_is_not_read_is_told),
                TEST(a_directory_that_is_not_there_is_not_clean),
                TEST(a_record_that_is_none_is_refused),
        };
        if (crypto_init() != 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
