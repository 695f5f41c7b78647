/* SPDX-License-Identifier: Apache-2.0
 * t_purge.c: what a deleted model left in the tables whose keys begin with its id, removed a
 * bounded number at a time, so that no transaction is held long. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

enum { KEY_BYTES_LONGEST = 4 + 2 * PSEUDONYM_BYTES };

static const struct {
        enum table table;
        size_t key_len;
} tables_of_model[] = {
        {TABLE_SUBJECT_RECORDS, 4 + 2 * PSEUDONYM_BYTES},
        {TABLE_RECORDS, 4 + PSEUDONYM_BYTES},
        {TABLE_SUBJECTS, 4 + PSEUDONYM_BYTES},
        {TABLE_WAITING, 4 + 4 + ULID_BYTES},
        {TABLE_SLICES, 4 + 4 + 4},
        {TABLE_SHARDS, 4 + 4},
        {TABLE_SERVED, 3 * 4 + 8},
        {TABLE_RECALLS, 4 + 8},
};
enum { TABLES_OF_MODEL = sizeof tables_of_model / sizeof tables_of_model[0] };

/* Empties one table's part while *room lasts; UL_NOT_FOUND: nothing is left in it. */
static int purge_table(struct txn *t, enum table table, size_t key_len, const uint8_t prefix[4],
                       uint32_t *room)
{
        uint8_t key[KEY_BYTES_LONGEST];
        int err;
        while ((err = db_first(t, table, prefix, 4, key, key_len)) == 0 && *room > 0) {
                err = db_del(t, table, key, key_len);
                if (err != 0)
                        return err;
                --*room;
        }
        return err;
}

int t_model_purge(struct txn *t, uint32_t model, uint32_t max, bool *left)
{
        uint8_t prefix[4];
        int err = t->err;
        *left = false;
        put_be32(prefix, model);
        for (int i = 0; err == 0 && i < TABLES_OF_MODEL; i++) {
                err = purge_table(t, tables_of_model[i].table, tables_of_model[i].key_len, prefix,
                                  &max);
                if (err == 0) {
                        *left = true; /* no room for what is still there */
                        return 0;
                }
                if (err == UL_NOT_FOUND)
                        err = 0;
        }
        return err;
}
