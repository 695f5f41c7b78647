/* SPDX-License-Identifier: Apache-2.0
 * scan_records.h: a file of records, as it was loaded, read for the scanner: NDJSON as it stands,
 * a CSV as models of numbers, of columns and of texts would have it. Errors are told here. */
#ifndef UNLEARND_CLI_SCAN_RECORDS_H
#define UNLEARND_CLI_SCAN_RECORDS_H

#include "lib/scan/scan.h"

/* Names of a CSV's columns; NULL: the usual ones. */
struct scan_columns {
        const char *id, *subject, *label, *text;
};
/* 0, or 2: the exit status of a scan that could not look. path "-": standard input. */
int scan_records_read(const char *path, const struct scan_columns *columns, struct scan *scan);

#endif
