/* SPDX-License-Identifier: Apache-2.0
 * checkpoint.h: a constituent's parameters after a slice, as a safetensors file that Python opens,
 * with its provenance in `__metadata__`. The file is a function of configuration and retained set
 * alone: no times, no paths, no model name.
 *
 *   u64 le  n: header length (padded with spaces to a multiple of 64 minus 8)
 *   n bytes JSON: {"__metadata__": {...strings...}, "mean": {"dtype":"F32","shape":[F],
 *           "data_offsets":[a,b]}, "scale": {...}, "layers.0.weight": [in, out], "layers.0.bias":
 * ...} data    f32 little-endian tensors, in the header's order, without gaps
 */
#ifndef UNLEARND_CHECKPOINT_CHECKPOINT_H
#define UNLEARND_CHECKPOINT_CHECKPOINT_H

#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include <stddef.h>
#include <stdint.h>

enum { CHECKPOINT_TENSORS_MAX = 24, CHECKPOINT_KERNEL_MAX = 32 };

struct checkpoint_tensor {
        char name[32];
        uint32_t rows, cols; /* cols 0: a vector of `rows` */
        float *data;         /* [rows * max(cols, 1)] */
};

struct checkpoint {
        /* provenance */
        uint8_t config_hash[SHA256_BYTES];
        uint32_t shard;
        uint32_t slice;                     /* parameters after this slice, 1-based */
        uint32_t stage;                     /* effective stage number: see sisa/plan.h */
        uint8_t parent[SHA256_BYTES];       /* file digest of the checkpoint trained from; zeros */
        uint8_t retained[SHA256_BYTES];     /* commitment: SHA-256 of the sorted live pseudonyms
                                               of slices 1..slice */
        uint64_t records;                   /* live records of slices 1..slice */
        char kernel[CHECKPOINT_KERNEL_MAX]; /* BLAS kernel name */
        uint32_t halvings; /* of the learning rate in this stage, until it did not diverge */
        /* the constituent; 0 tensors where records == 0 (nothing to train on yet) */
        uint32_t tensor_count;
        struct checkpoint_tensor tensors[CHECKPOINT_TENSORS_MAX];
        float *block; /* the one allocation that the tensors point into */
        size_t block_bytes;
};

/* Durable write (fsync file and directory). file_hash: SHA-256 of the whole file. */
int checkpoint_write(const char *path, const struct checkpoint *c, uint8_t file_hash[SHA256_BYTES],
                     struct errinfo *e);
/* Reads and validates; `expected` (may be NULL) is the file digest, UL_CORRUPT where it differs.
 * The caller owns the result and calls checkpoint_clear, which wipes the parameters. */
int checkpoint_read(const char *path, const uint8_t expected[SHA256_BYTES], struct checkpoint *out,
                    uint8_t file_hash[SHA256_BYTES], struct errinfo *e);
void checkpoint_clear(struct checkpoint *c);
/* SHA-256 of the tensor data alone (what served_hash is made of). */
void checkpoint_data_hash(const struct checkpoint *c, uint8_t out[SHA256_BYTES]);

#endif
