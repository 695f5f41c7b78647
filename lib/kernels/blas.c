/* SPDX-License-Identifier: Apache-2.0
 * blas.c: the one owner of cblas.h. Every product is an sgemm, for one row as for many: sgemm
 * packs its operands, so that its bits do not depend on where they lie in memory, as those of
 * sgemv may. One thread: threads inside BLAS cost more than they bring at our sizes, and split
 * sums by their number. */
#include "lib/kernels/kernels.h"
#include <cblas.h>
#include <stdlib.h>

int kernels_init(struct errinfo *e)
{
        const char *core = getenv("OPENBLAS_CORETYPE");

        if (core && !*core)
                return ul_fail_field(e, UL_INVALID, "OPENBLAS_CORETYPE",
                                     "OPENBLAS_CORETYPE is set but empty, which selects another "
                                     "kernel; unset it or name a core");
        if (openblas_get_parallel() == 0)
                return ul_fail(e, UL_INTERNAL,
                               "the serial build of OpenBLAS is loaded, which is not safe with "
                               "threads; install libopenblas0-pthread");
        openblas_set_num_threads(1);
        return 0;
}

const char *kernels_name(void)
{
        return openblas_get_corename();
}

bool kernels_single_threaded(void)
{
        return openblas_get_num_threads() == 1;
}

void dense_forward(const float *x, size_t ldx, const float *w, uint32_t n, uint32_t in,
                   uint32_t out, float *y, size_t ldy)
{
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)n, (blasint)out,
                    (blasint)in, 1.0f, x, (blasint)ldx, w, (blasint)out, 0.0f, y, (blasint)ldy);
}

void dense_backward_input(const float *dy, size_t lddy, const float *w, uint32_t n, uint32_t in,
                          uint32_t out, float *dx, size_t lddx)
{
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n, (blasint)in, (blasint)out,
                    1.0f, dy, (blasint)lddy, w, (blasint)out, 0.0f, dx, (blasint)lddx);
}

void dense_backward_weights(const float *x, size_t ldx, const float *dy, size_t lddy, uint32_t n,
                            uint32_t in, uint32_t out, float alpha, float beta, float *g)
{
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)in, (blasint)out, (blasint)n,
                    alpha, x, (blasint)ldx, dy, (blasint)lddy, beta, g, (blasint)out);
}
