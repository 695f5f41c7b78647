/* SPDX-License-Identifier: Apache-2.0
 * fuzz_checkpoint.c: a checkpoint file (safetensors). There is one form: what is accepted is
 * written again to the last byte, under the digest that reading it gave. Since the header must be
 * in that form, the input is a header as people would write it ('0': its length and padding are
 * put in front of it here), or the file as it is ('1'). */
#include "lib/checkpoint/checkpoint.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc, (void)argv;
        fuzz_file_init();
        return crypto_init();
}

static void check_tensors(const struct checkpoint *c)
{
        size_t floats = 0;
        assert(c->slice >= 1 && c->stage >= 1 && c->tensor_count <= CHECKPOINT_TENSORS_MAX);
        assert((c->records == 0) == (c->tensor_count == 0));
        for (uint32_t i = 0; i < c->tensor_count; i++) {
                const struct checkpoint_tensor *t = &c->tensors[i];
                assert(t->data == c->block + floats);
                floats += (size_t)t->rows * (t->cols > 0 ? t->cols : 1);
        }
        assert(floats * sizeof(float) == c->block_bytes);
}

static void check_rewritten(const struct checkpoint *c, const struct buf *file,
                            const uint8_t digest[SHA256_BYTES])
{
        struct buf written = {0};
        uint8_t hash[SHA256_BYTES];
        struct errinfo e = {0};
        assert(checkpoint_write(fuzz_file_path, c, hash, &e) == 0);
        assert(memcmp(hash, digest, SHA256_BYTES) == 0);
        assert(read_file(fuzz_file_path, file->len, &written, &e) == 0);
        assert(written.len == file->len && memcmp(written.data, file->data, file->len) == 0);
        buf_free(&written, false);
}

/* Everything up to the last '}' is the header. */
static void make_file(const uint8_t *data, size_t size, struct buf *out)
{
        size_t header = size;
        while (header > 0 && data[header - 1] != '}')
                header--;
        const size_t padded = (8 + header + 63) / 64 * 64 - 8;
        uint8_t prefix[8];
        put_le64(prefix, padded);
        buf_append(out, prefix, sizeof prefix);
        buf_append(out, data, header);
        while (out->len < 8 + padded)
                buf_append(out, " ", 1);
        buf_append(out, data + header, size - header);
        assert(!out->failed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct buf file = {0};
        struct checkpoint c;
        uint8_t digest[SHA256_BYTES];
        struct errinfo e = {0};
        if (fuzz_choice(&data, &size, 2) == 0)
                make_file(data, size, &file);
        else
                buf_append(&file, data, size);
        const int err = checkpoint_read(fuzz_file(file.data, file.len), NULL, &c, digest, &e);
        if (err != 0) {
                assert(c.block == NULL);
                fuzz_check_refusal(err, &e);
        } else {
                check_tensors(&c);
                check_rewritten(&c, &file, digest);
                checkpoint_clear(&c);
        }
        buf_free(&file, false);
        return 0;
}
