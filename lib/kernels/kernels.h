/* SPDX-License-Identifier: Apache-2.0
 * kernels.h: the arithmetic: BLAS for training, a kernel of our own for serving. Pure functions on
 * plain arrays: no allocation, no globals, no I/O. Legend: B rows of a batch, I inputs, O outputs;
 * all matrices row-major f32. */
#ifndef UNLEARND_KERNELS_KERNELS_H
#define UNLEARND_KERNELS_KERNELS_H

#include "lib/util/err.h"
#include <stddef.h>
#include <stdint.h>

/* Sets one BLAS thread and checks which OpenBLAS was loaded: UL_INTERNAL for the serial build in a
 * process that computes on several threads, UL_INVALID for OPENBLAS_CORETYPE set but empty. */
int kernels_init(struct errinfo *e);
/* openblas_get_corename(), e.g. "SkylakeX". */
const char *kernels_name(void);

#endif
