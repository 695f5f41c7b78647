/* SPDX-License-Identifier: Apache-2.0
 * fuzz_secret.c: a file of webhook secrets, as a service manager hands it over. What is accepted
 * signs: once for each secret that stands, by the first one always. */
#include "daemon/webhook_secret.h"
#include "tests/fuzz/fuzz.h"

static const char *file_name;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        static char folder[PATH_SIZE];
        (void)argc, (void)argv;
        if (crypto_init() != 0)
                return -1;
        fuzz_file_init();
        char *slash = strrchr(fuzz_file_path, '/');
        memcpy(folder, fuzz_file_path, (size_t)(slash - fuzz_file_path));
        file_name = slash + 1;
        return setenv("CREDENTIALS_DIRECTORY", folder, 1);
}

static uint32_t signatures(const struct webhook_secrets *s, int64_t now)
{
        struct buf out = {0};
        uint32_t n = 0;
        webhook_sign(s, now, "msg_1", 1769850000, "{}", 2, &out);
        assert(!out.failed && out.len > 3 && memcmp(out.data, "v1,", 3) == 0);
        for (size_t i = 0; i < out.len; i++)
                n += out.data[i] == ',';
        buf_free(&out, false);
        return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct webhook_secrets s;
        struct errinfo e = {0};
        (void)fuzz_file(data, size);
        const int err = webhook_secrets_open("/nonexistent", file_name, &s, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                return 0;
        }
        assert(s.from_credential && s.count >= 1 && s.count <= SECRETS_MAX);
        assert(s.all[0].until_ms == 0);
        uint32_t standing = 0;
        for (uint32_t i = 0; i < s.count; i++) {
                assert(i == 0 || s.all[i].until_ms > 0);
                assert(s.all[i].len >= SECRET_BYTES_MIN && s.all[i].len <= SECRET_BYTES_MAX);
                standing += i == 0 || s.all[i].until_ms > 1769850000000;
        }
        assert(signatures(&s, 1769850000000) == standing);
        webhook_secrets_wipe(&s);
        return 0;
}
