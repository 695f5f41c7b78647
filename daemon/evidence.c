/* SPDX-License-Identifier: Apache-2.0
 * evidence.c: what became of a shard's checkpoints through an erasure, noted in the transaction in
 * which it happened: which were given up when the erasure was forgotten, and what stood in their
 * place when the shard was clean again. Later erasures change both, so the certificate must not
 * read them from the shard's present state. */
#include "daemon/erasure.h"
#include "daemon/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void evidence_took(struct evidence *ev, uint32_t slice, const struct slice_row *row)
{
        if (ev->count++ == 0)
                ev->first = slice;
        buf_append(&ev->digests, row->file_hash, SHA256_BYTES);
}

int evidence_forgotten(struct evidence *ev, struct txn *t, const uint8_t id[ULID_BYTES],
                       uint32_t model, uint32_t shard)
{
        struct evidence_row row = {.first = ev->first, .destroyed = ev->count};
        int err = ev->digests.failed
                          ? txn_fail(t, UL_NOMEM)
                          : t_evidence_put(t, id, model, shard, &row,
                                           (const uint8_t(*)[SHA256_BYTES])ev->digests.data);
        buf_free(&ev->digests, false);
        return err;
}

/* The BLAS kernel that the model's checkpoints are trained with; "" where none was pinned. */
static int kernel_of(struct txn *t, uint32_t model, char *out, size_t size)
{
        char name[32];
        struct buf b = {0};
        (void)snprintf(name, sizeof name, "kernel/%u", model);
        int err = t_blob_get(t, name, &b);
        if (err == 0)
                (void)snprintf(out, size, "%.*s", (int)b.len, (const char *)b.data);
        buf_free(&b, false);
        return err == UL_NOT_FOUND ? 0 : err;
}

static int note_constituent(struct txn *t, const struct model *m, uint32_t shard,
                            struct evidence_row *row)
{
        struct shard_row srow;
        struct slice_row last;
        int err = t_shard_get(t, m->id, shard, &srow);
        if (err == 0)
                err = t_slice_get(t, m->id, shard, srow.slices, &last);
        if (err == 0)
                err = kernel_of(t, m->id, row->kernel, sizeof row->kernel);
        if (err != 0)
                return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
        row->slices = srow.slices;
        memcpy(row->file_hash, last.file_hash, SHA256_BYTES);
        memcpy(row->data_hash, last.data_hash, SHA256_BYTES);
        memcpy(row->retained, last.retained, SHA256_BYTES);
        memcpy(row->config_hash, m->config_hash, SHA256_BYTES);
        row->records = last.records;
        row->trained_ms = last.trained_ms;
        return 0;
}

int evidence_ended(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES], uint32_t model,
                   uint32_t shard)
{
        struct evidence_row row;
        uint8_t(*digests)[SHA256_BYTES] = NULL;
        int err = t_evidence_get(t, id, model, shard, &row, &digests);
        if (err != 0)
                return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
        struct model *m = registry_find_id(s, model);
        if (m == NULL)
                row.deleted = 1;
        else
                err = note_constituent(t, m, shard, &row);
        if (err == 0)
                err = t_evidence_put(t, id, model, shard, &row,
                                     (const uint8_t(*)[SHA256_BYTES])digests);
        model_unref(m);
        free(digests);
        return err;
}
