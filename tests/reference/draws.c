/* SPDX-License-Identifier: Apache-2.0
 * draws.c: the product's draws, for test_reference.py to compare: a question a line on standard
 * input, an answer a line on standard output.
 *
 *   place KEY SUBJECT LIKELIHOOD SHARDS SLICES     hex; a number of enum erasure_likelihood
 *        -> SHARD SLICE
 *   order JOBFILE SLICE WORD WORD WORD WORD        the words of the stream of a shuffle
 *        -> the first feature of each row of slices 1..SLICE, in the order drawn */
#include "lib/sisa/dataset.h"
#include "lib/sisa/placement.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 2048, WORDS = 4 };

static int fail(const char *what)
{
        (void)fprintf(stderr, "draws: %s\n", what);
        return -1;
}

static int place(const char *line)
{
        char key_hex[2 * KEY_BYTES + 1], subject_hex[2 * PSEUDONYM_BYTES + 1];
        uint8_t key[KEY_BYTES], subject[PSEUDONYM_BYTES];
        uint32_t likelihood, shards, slices;
        if (sscanf(line, "place %64s %32s %" SCNu32 " %" SCNu32 " %" SCNu32, key_hex, subject_hex,
                   &likelihood, &shards, &slices) != 5 ||
            hex_decode(key_hex, strlen(key_hex), key, sizeof key) != KEY_BYTES ||
            hex_decode(subject_hex, strlen(subject_hex), subject, sizeof subject) !=
                    PSEUDONYM_BYTES)
                return fail("a malformed question");
        const struct placement p = placement_of(key, subject, likelihood, shards, slices);
        return printf("%" PRIu32 " %" PRIu32 "\n", p.shard, p.slice) < 0 ? -1 : 0;
}

static int print_order(struct dataset *d, const struct job *j, uint32_t rows)
{
        float *x = calloc(j->config->features, sizeof *x);
        uint32_t class;
        if (x == NULL)
                return fail("no memory");
        for (uint32_t i = 0; i < rows; i++) {
                dataset_draw(d, i, 1, x, &class, NULL);
                (void)printf("%s%.0f", i > 0 ? " " : "", (double)x[0]);
        }
        free(x);
        return putchar('\n') == EOF ? -1 : 0;
}

/* Of a classification. */
static int order(const char *line)
{
        char path[PATH_SIZE];
        uint8_t retained[SHA256_BYTES];
        uint64_t words[WORDS];
        uint32_t slice;
        struct buf text = {0};
        struct job *j = NULL;
        struct dataset *d = NULL;
        struct prng rng;
        struct errinfo e = {0};
        size_t json_len = 0;
        if (sscanf(line, "order %511s %" SCNu32 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
                   path, &slice, &words[0], &words[1], &words[2], &words[3]) != 2 + WORDS)
                return fail("a malformed question");
        int err = read_file(path, 1 << 20, &text, &e);
        if (err == 0)
                err = job_unseal(text.data, text.len, &json_len, &e);
        if (err == 0)
                err = job_parse((const char *)text.data, json_len, &j, &e);
        if (err == 0)
                err = dataset_open(j, &d, &e);
        if (err == 0) {
                const uint32_t rows = dataset_select(d, slice, retained);
                prng_init(&rng, j->model_key, words, WORDS);
                dataset_shuffle(d, &rng);
                err = print_order(d, j, rows);
        } else {
                err = fail(e.detail);
        }
        dataset_close(&d);
        job_destroy(&j);
        buf_free(&text, false);
        return err;
}

int main(void)
{
        char line[LINE_MAX_BYTES];
        int err = crypto_init();
        while (err == 0 && fgets(line, sizeof line, stdin) != NULL)
                err = strncmp(line, "place ", 6) == 0 ? place(line) : order(line);
        return err == 0 && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
