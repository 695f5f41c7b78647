/* SPDX-License-Identifier: Apache-2.0
 * fuzz.h: what the fuzz targets share. A target is one function that libFuzzer calls with bytes of
 * its own making, in memory of their exact size; a sanitizer's report, a failed assert, a leak, or
 * more than a few seconds for one input is a finding. Targets assert what the headers promise of
 * accepted and of refused input; "it did not crash" is the least of it.
 *
 * Whatever a target draws, it draws from the input, so that an input fails the same way again. */
#ifndef UNLEARND_TESTS_FUZZ_H
#define UNLEARND_TESTS_FUZZ_H

#include "lib/util/bytes.h"
#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include "lib/util/file.h"
#include <assert.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* The first byte of an input chooses among `n` variants of a target: '0' is the first, so that
 * seeds can be written by hand. Moves past it. */
static inline uint32_t fuzz_choice(const uint8_t **data, size_t *size, uint32_t n)
{
        if (*size == 0)
                return 0;
        const uint8_t c = **data;
        (*data)++;
        (*size)--;
        return (uint8_t)(c - '0') % n;
}

/* FNV-1a, 64 bits: what a run did, in one number that two runs can be compared by. */
static inline uint64_t fuzz_mix(uint64_t h, const void *data, size_t len)
{
        const uint8_t *p = data;
        for (size_t i = 0; i < len; i++)
                h = (h ^ p[i]) * UINT64_C(0x100000001b3);
        return h;
}

/* The next size of a piece, 1..most: short ones as often as long ones. */
static inline size_t fuzz_piece(uint64_t *state, size_t most)
{
        *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const uint32_t r = (uint32_t)(*state >> 33);
        const size_t n = (r & 3) == 0 ? 1 : 1 + (r >> 2) % (most < 4096 ? most : 4096);
        return n < most ? n : most;
}

/* A refusal is an error of the enum, and says why. */
static inline void fuzz_check_refusal(int err, const struct errinfo *e)
{
        assert(err < 0 && err != UL_AGAIN && e->code == err);
        assert(strcmp(ul_err_name(err), "unknown") != 0);
        assert(e->detail[0] != '\0');
}

/* A copy with a NUL behind it, as bodies of requests have; the caller frees. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
        char *text = malloc(size + 1);
        assert(text != NULL);
        if (size > 0)
                memcpy(text, data, size);
        text[size] = '\0';
        return text;
}

/* --- one file, written anew for each input --- */

static char fuzz_file_path[PATH_SIZE];

static inline void fuzz_file_remove(void)
{
        (void)unlink(fuzz_file_path);
}

/* Makes the file; below /dev/shm unless TMPDIR says otherwise. */
static inline void fuzz_file_init(void)
{
        const char *tmp = getenv("TMPDIR");
        const int n = snprintf(fuzz_file_path, sizeof fuzz_file_path, "%s/unlearnd-fuzz.XXXXXX",
                               tmp != NULL ? tmp : "/dev/shm");
        assert(n > 0 && (size_t)n < sizeof fuzz_file_path);
        const int fd = mkstemp(fuzz_file_path);
        assert(fd >= 0);
        (void)close(fd);
        (void)atexit(fuzz_file_remove);
}

static inline const char *fuzz_file(const uint8_t *data, size_t size)
{
        const int fd = open(fuzz_file_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert(fd >= 0);
        assert(write_at(fd, data, size, 0, NULL) == 0);
        (void)close(fd);
        return fuzz_file_path;
}

#endif
