/* SPDX-License-Identifier: Apache-2.0
 * lanes_avx512.c: lanes_body.h for AVX-512: 16 floats a vector, tiles of 12 rows x 32 outputs. The
 * target is set here and not in the Makefile, so that no other file may use what the processor
 * might not have. */
#if defined(__x86_64__)
#include "lib/kernels/lanes.h"
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define LANES 16
#define TILE_ROWS 12
#define LANES_TABLE lanes_avx512
#define LANES_NAME "avx512"
#define VEC_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define VEC_SQRT(a) ((vec)_mm512_sqrt_ps((__m512)(a)))

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma"))),    \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,fma,prefer-vector-width=512")
#endif
#include "lib/kernels/lanes_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int lanes_avx512_not_here;
#endif
