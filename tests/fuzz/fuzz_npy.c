/* SPDX-License-Identifier: Apache-2.0
 * fuzz_npy.c: an upload as a numpy file (models without an encoder alone take it). See
 * fuzz_ingest.h. */
#include "tests/fuzz/fuzz_ingest.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc, (void)argv;
        return crypto_init();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        fuzz_ingest_format(INGEST_NPY, FUZZ_PLAIN_ENCODINGS, data, size);
        return 0;
}
