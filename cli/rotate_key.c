/* SPDX-License-Identifier: Apache-2.0
 * rotate_key.c: a new signing key for the audit log, offline: made and put in the old one's place,
 * the old one beside it. The daemon announces it in the log when it starts, signed by the old one,
 * which it then removes. */
#include "cli/commands.h"
#include "cli/lock.h"
#include "lib/util/crypto.h"
#include "lib/util/file.h"
#include <unistd.h>

struct rotate_options {
        const char *data_dir;
};
const struct option_spec audit_rotate_key_options[] = {
        {"data-dir", "D", OPTION_TEXT, offsetof(struct rotate_options, data_dir),
         "the data directory; no daemon may serve it"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t audit_rotate_key_options_size = sizeof(struct rotate_options);

/* The old key is renamed, not copied, so that removing it leaves no second copy on the disk. An
 * exchange that was cut short left no log.key: it goes on. */
static int set_aside(const char *path, const char *old_path, struct errinfo *e)
{
        if (file_exists(path) && file_exists(old_path))
                return ul_fail(
                        e, UL_CONFLICT,
                        "a new key waits already: start the daemon, so that it is announced");
        if (!file_exists(path) && !file_exists(old_path))
                return ul_fail(e, UL_NOT_FOUND,
                               "%.100s is not there. Where the keys are systemd credentials, give "
                               "the old one as log.key.old and a new one as log.key",
                               path);
        return file_exists(path) ? rename_durably(path, old_path, e) : 0;
}

static int rotate(const char *dir, struct errinfo *e)
{
        char path[PATH_SIZE], old_path[PATH_SIZE];
        uint8_t seed[SIGN_SEED_BYTES];
        int err = path_format(path, e, "%s/keys/log.key", dir);
        if (err == 0)
                err = path_format(old_path, e, "%s/keys/log.key.old", dir);
        if (err == 0)
                err = set_aside(path, old_path, e);
        if (err != 0)
                return err;
        random_bytes(seed, sizeof seed);
        err = write_file_durably(path, seed, sizeof seed, e);
        wipe(seed, sizeof seed);
        return err;
}

int audit_rotate_key_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct rotate_options *o = options;
        struct errinfo e = {0};
        int fd = -1;
        (void)c;
        (void)in;
        if (o->data_dir == NULL)
                return complain_usage("--data-dir says whose key: --data-dir D");
        int err = lock_data_dir(o->data_dir, &fd, &e);
        if (err == 0)
                err = rotate(o->data_dir, &e);
        if (fd >= 0)
                (void)close(fd);
        if (err != 0)
                return complain_about(&e);
        (void)puts("The new key is in place. The daemon announces it in the log when it starts, "
                   "and removes\nthe old one; publish then what GET /v1/audit/key gives.");
        return 0;
}
