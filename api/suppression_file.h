/* SPDX-License-Identifier: Apache-2.0
 * suppression_file.h: the lines of an export of suppressions, written and read:
 *
 *   {"format": "unlearnd-suppressions", "version": 1, "key_check": HEX, "exported_at": TIME}
 *   {"pseudonym": HEX, "kind": "subject"|"record", "model": NAME|null, "erasure": ULID,
 *    "since": TIME}                                            any number of them
 *   {"suppressions": how many of them}
 *
 * It keeps nothing but its place in the file. */
#ifndef UNLEARND_API_SUPPRESSION_FILE_H
#define UNLEARND_API_SUPPRESSION_FILE_H

#include "daemon/service.h"
#include "lib/util/bytes.h"
#include "lib/util/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SUPPRESSION_LINE_MAX = 1024 };

void suppression_file_begin(struct buf *out, struct service *s, int64_t now_ms);
void suppression_file_end(struct buf *out, uint64_t count);

struct suppression_reader {
        uint8_t key_check[KEY_CHECK_BYTES]; /* that the file must be of; set by the caller */
        uint64_t lines, entries;
        bool ended;
};
/* One line, without its end. *entry false: it was the first or the last line. UL_CONFLICT: the file
 * is of another key; UL_SYNTAX, UL_INVALID: the detail says in which line. No detail repeats what
 * stands in the line. */
int suppression_read_line(struct suppression_reader *r, const char *line, size_t len,
                          struct suppression_view *out, bool *entry, struct errinfo *e);
/* After the last line: UL_INVALID where the file is not whole. */
int suppression_read_end(const struct suppression_reader *r, struct errinfo *e);

#endif
