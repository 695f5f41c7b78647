/* SPDX-License-Identifier: Apache-2.0
 * fuzz_manifest.c: what a backup says of itself. '0': the text, which is given its sum here; '1': a
 * MANIFEST as it came. What is read is written as the same text for ever, and no path of it leaves
 * the backup; with any one byte changed it is refused. */
#include "lib/backup/manifest.h"
#include "tests/fuzz/fuzz.h"

static void check_paths(const struct backup_manifest *m)
{
        uint64_t sum = 0;
        for (uint32_t i = 0; i < m->file_count; i++) {
                const char *path = m->files[i].path;
                assert(path[0] != '\0' && path[0] != '/' && strlen(path) <= BACKUP_PATH_MAX);
                assert(path[0] != '.' && strstr(path, "/.") == NULL && strstr(path, "//") == NULL);
                assert(i == 0 || strcmp(m->files[i - 1].path, path) < 0);
                sum += m->files[i].bytes;
        }
        assert(sum == manifest_bytes(m));
}

static void write_again(const struct buf *text)
{
        struct backup_manifest m;
        struct buf again = {0};
        struct errinfo e = {0};
        assert(manifest_parse((const char *)text->data, text->len, &m, NULL) == 0);
        manifest_write(&m, &again);
        manifest_clear(&m);
        assert(again.len == text->len && memcmp(again.data, text->data, text->len) == 0);
        again.data[crc32c(0, text->data, text->len) % text->len] ^= 1;
        assert(manifest_parse((const char *)again.data, again.len, &m, &e) == UL_CORRUPT);
        buf_free(&again, false);
}

static void check(const char *text, size_t len)
{
        struct backup_manifest m;
        struct buf out = {0};
        struct errinfo e = {0};
        const int err = manifest_parse(text, len, &m, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                assert(m.files == NULL && m.file_count == 0);
                return;
        }
        check_paths(&m);
        manifest_write(&m, &out);
        manifest_clear(&m);
        write_again(&out);
        buf_free(&out, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        uint8_t sum[SHA256_BYTES];
        char hex[2 * SHA256_BYTES + 1];
        struct buf text = {0};
        const bool sums = fuzz_choice(&data, &size, 2) == 0;
        buf_append(&text, data, size);
        if (sums) {
                sha256(data, size, sum);
                buf_printf(&text, "end %s\n", hex_encode(sum, sizeof sum, hex));
        }
        assert(!text.failed);
        check((const char *)text.data, text.len);
        buf_free(&text, false);
        return 0;
}
