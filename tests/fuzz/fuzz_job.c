/* SPDX-License-Identifier: Apache-2.0
 * fuzz_job.c: the job file that a worker is told to carry out. What is accepted is within the
 * model's bounds, and written again it is the same job. */
#include "lib/sisa/job.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc, (void)argv;
        return crypto_init();
}

static void check_job(const struct job *j)
{
        assert(j->root[0] == '/' && j->scratch[0] == '/');
        assert(j->shard < j->config->shards && j->config->shards <= SHARDS_MAX);
        assert(j->slices >= 1 && j->slices <= SLICES_TOTAL_MAX);
        assert(j->from >= 1 && j->from <= j->slices);
        for (uint32_t i = 0; i < j->slices; i++)
                assert(j->slice[i].live <= j->slice[i].rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct job *j = NULL, *again = NULL;
        struct buf once = {0}, twice = {0};
        struct errinfo e = {0};
        const int err = job_parse((const char *)data, size, &j, &e);
        if (err != 0) {
                assert(j == NULL);
                fuzz_check_refusal(err, &e);
                return 0;
        }
        check_job(j);
        assert(job_write(j, &once) == 0);
        assert(job_parse((const char *)once.data, once.len, &again, &e) == 0);
        assert(job_write(again, &twice) == 0);
        assert(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
        job_destroy(&j);
        job_destroy(&again);
        buf_free(&once, true);
        buf_free(&twice, true);
        return 0;
}
