/* SPDX-License-Identifier: Apache-2.0
 * find_config.c: the configuration of a known digest, out of the bytes of a control database that
 * is not opened as one. The digest says that it is the right one, whatever page it stood on. */
#include "lib/scan/scan_private.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char config_head[] = "{\"name\":\"";

static int look(const char *text, size_t len, const uint8_t hash[SHA256_BYTES],
                struct model_config **out)
{
        while (len > 0) {
                const char *at = memmem(text, len, config_head, sizeof config_head - 1);
                if (at == NULL)
                        break;
                len -= (size_t)(at - text);
                text = at;
                size_t end = scan_object_end(
                        text, len < MODEL_CONFIG_BYTES_MAX ? len : MODEL_CONFIG_BYTES_MAX);
                if (end > 0 && model_config_parse(text, end, out, NULL) == 0) {
                        if (memcmp((*out)->hash, hash, SHA256_BYTES) == 0)
                                return 0;
                        model_config_destroy(out);
                }
                text++;
                len--;
        }
        return UL_NOT_FOUND;
}

int scan_find_config(const char *control, const uint8_t hash[SHA256_BYTES],
                     struct model_config **out, struct errinfo *e)
{
        struct stat st;
        void *map = MAP_FAILED;
        int err = UL_NOT_FOUND;
        *out = NULL;
        int fd = open(control, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) != 0) {
                err = ul_fail_errno(e, "the control database cannot be read");
                goto out;
        }
        if (S_ISREG(st.st_mode) && st.st_size > 0)
                map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map != MAP_FAILED)
                err = look(map, (size_t)st.st_size, hash, out);
        if (err != 0)
                err = ul_fail(e, err,
                              "the control database does not hold the model's configuration");
out:
        if (map != MAP_FAILED)
                (void)munmap(map, (size_t)st.st_size);
        if (fd >= 0)
                (void)close(fd);
        return err;
}
