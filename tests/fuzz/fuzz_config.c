/* SPDX-License-Identifier: Apache-2.0
 * fuzz_config.c: the daemon's configuration file. What is accepted lies within the option table;
 * what is refused says where; and a file says the same each time it is read. */
#include "config/config.h"
#include "config/options.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc, (void)argv;
        (void)unsetenv("STATE_DIRECTORY");
        (void)unsetenv("CREDENTIALS_DIRECTORY");
        fuzz_file_init();
        return 0;
}

static bool one_of(const char *value, const char *choices)
{
        const size_t len = strlen(value);
        for (const char *p = choices; p != NULL; p = strchr(p, '|')) {
                p += *p == '|';
                if (strncmp(p, value, len) == 0 && (p[len] == '|' || p[len] == '\0'))
                        return true;
        }
        return false;
}

static void check_option(const struct option_spec *o, const struct config *c)
{
        const uint8_t *at = (const uint8_t *)c + o->offset;
        uint32_t small;
        uint64_t large;
        switch (o->type) {
        case OPTION_TEXT:
        case OPTION_CHOICE:
                assert(memchr(at, '\0', o->size) != NULL);
                if (o->type == OPTION_CHOICE)
                        assert(one_of((const char *)at, o->choices));
                return;
        case OPTION_U32:
                memcpy(&small, at, sizeof small);
                assert(small >= o->min && small <= o->max);
                return;
        case OPTION_BYTES:
                memcpy(&large, at, sizeof large);
                assert(large >= o->min && large <= o->max);
                return;
        case OPTION_BOOL:
                assert(*at <= 1);
                return;
        }
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct config c, again;
        struct errinfo e = {0};
        const char *path = fuzz_file(data, size);
        memset(&c, 0, sizeof c);
        memset(&again, 0, sizeof again);
        config_defaults(&c);
        config_defaults(&again);
        const int err = config_read(path, &c, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                return 0;
        }
        for (size_t i = 0; i < config_option_count; i++)
                check_option(&config_options[i], &c);
        assert(config_read(path, &again, &e) == 0 && memcmp(&c, &again, sizeof c) == 0);
        const int checked = config_check(&c, &e);
        if (checked != 0)
                fuzz_check_refusal(checked, &e);
        else /* beyond loopback only with tokens, or told so */
                assert(config_loopback(c.listen_host) || c.tokens_file[0] != '\0' ||
                       c.insecure_no_auth);
        return 0;
}
