/* SPDX-License-Identifier: Apache-2.0
 * erasure_print.h: an erasure for people: what it is, its three times, what it touched. */
#ifndef UNLEARND_CLI_ERASURE_PRINT_H
#define UNLEARND_CLI_ERASURE_PRINT_H

#include "cli/table.h"

void erasure_print_head(const struct json *erasure);
/* Prints the times that are there and are not among the bits of *shown, and adds them. */
void erasure_print_times(const struct json *erasure, unsigned *shown);
int erasure_print_affected(const struct json *erasure);

#endif
