/* SPDX-License-Identifier: Apache-2.0
 * fuzz_ledger.c: one line of the erasure ledger, without its check. What is read is written as a
 * line of its kind, and then as the same line for ever. */
#include "lib/ledger/entry.h"
#include "tests/fuzz/fuzz.h"

static void write_again(const struct buf *line, struct buf *out)
{
        struct ledger_entry x;
        assert(line->len > 0 && line->data[line->len - 1] == '\n');
        assert(ledger_entry_parse((const char *)line->data, line->len - 1, &x, NULL) == 0);
        ledger_entry_write(out, &x);
        ledger_entry_clear(&x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct ledger_entry x;
        struct buf line = {0}, again = {0};
        struct errinfo e = {0};
        const int err = ledger_entry_parse((const char *)data, size, &x, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                assert(x.models == NULL && x.subjects == NULL && x.records == NULL);
                assert(x.suppressions == NULL);
                return 0;
        }
        ledger_entry_write(&line, &x);
        ledger_entry_clear(&x);
        assert(line.data[0] == data[0]); /* the kind */
        write_again(&line, &again);
        assert(again.len == line.len && memcmp(again.data, line.data, line.len) == 0);
        buf_free(&line, false);
        buf_free(&again, false);
        return 0;
}
