/* SPDX-License-Identifier: Apache-2.0
 * dataset.h: the live rows of a shard's slices in canonical order (sorted by pseudonym), so that
 * what is trained is a function of the retained set and not of files, positions or arrival
 * (invariant 2). Rows stay in their mapped files, narrow; a batch is widened at a time. It must
 * not know stages or parameters. */
#ifndef UNLEARND_SISA_DATASET_H
#define UNLEARND_SISA_DATASET_H

#include "lib/sisa/job.h"
#include "lib/util/crypto.h"

struct dataset;

/* Maps the row files of all the job's slices, which `j` outlives, and checks every row. UL_DAMAGED,
 * "damaged rows: ...", names the file or the row; it also stands for live rows that are not as many
 * as the job says (a zeroed row looks like an erased one). */
int dataset_open(const struct job *j, struct dataset **out, struct errinfo *e);
void dataset_close(struct dataset **d); /* wipes */

/* Selects the live rows of slices 1..slice, in canonical order. Returns their number; `retained`
 * becomes the SHA-256 of their pseudonyms. Drawing starts from canonical order. */
uint32_t dataset_select(struct dataset *d, uint32_t slice, uint8_t retained[SHA256_BYTES]);
/* Canonical order, shuffled by the stream: not by what an earlier shuffle left. */
void dataset_shuffle(struct dataset *d, struct prng *rng);
/* Whether the selected rows are still those that dataset_open checked: UL_DAMAGED. What is trained
 * between two checks that hold was trained on what the files hold. */
int dataset_check(const struct dataset *d, struct errinfo *e);
/* Widens selected rows at..at + n - 1 in the drawing order. x: [n, features]; exactly one of
 * classes [n] and targets [n, outputs] is filled, by the model's task; the other may be NULL. */
void dataset_draw(const struct dataset *d, uint32_t at, uint32_t n, float *x, uint32_t *classes,
                  float *targets);

#endif
