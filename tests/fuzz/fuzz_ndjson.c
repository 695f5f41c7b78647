/* SPDX-License-Identifier: Apache-2.0
 * fuzz_ndjson.c: an upload as NDJSON. See fuzz_ingest.h. */
#include "tests/fuzz/fuzz_ingest.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc, (void)argv;
        return crypto_init();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        fuzz_ingest_format(INGEST_NDJSON, FUZZ_ENCODINGS, data, size);
        return 0;
}
