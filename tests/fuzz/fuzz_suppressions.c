/* SPDX-License-Identifier: Apache-2.0
 * fuzz_suppressions.c: a file of suppressions, line by line. No line is an entry before a head of
 * this key or after an end, entries name somebody, and a refused line leaves the place as it was.
 */
#include "api/suppression_file.h"
#include "tests/fuzz/fuzz.h"

/* False: it was refused. */
static bool read_line(struct suppression_reader *r, const char *line, size_t len)
{
        const struct suppression_reader before = *r;
        struct suppression_view v;
        struct errinfo e = {0};
        bool entry = false;
        const int err = suppression_read_line(r, line, len, &v, &entry, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                assert(!entry && r->entries == before.entries && r->ended == before.ended);
                return false;
        }
        assert(!before.ended && r->entries == before.entries + entry);
        if (entry) {
                assert(before.lines > 0 && !r->ended && v.since_ms > 0);
                assert(strcmp(v.kind, "subject") == 0 ||
                       (strcmp(v.kind, "record") == 0 && v.model[0] != '\0'));
        }
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct suppression_reader r = {.lines = 0}; /* of the key whose check is zeros */
        char *text = fuzz_text(data, size), *at = text, *end;
        struct errinfo e = {0};
        bool good = true;
        for (; good && (end = memchr(at, '\n', size - (size_t)(at - text))) != NULL; at = end + 1)
                good = read_line(&r, at, (size_t)(end - at));
        assert((suppression_read_end(&r, &e) == 0) == r.ended);
        free(text);
        return 0;
}
