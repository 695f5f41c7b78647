/* SPDX-License-Identifier: Apache-2.0
 * lanes_avx2.c: lanes_body.h for AVX2 with FMA: 8 floats a vector, tiles of 6 rows x 16 outputs.
 * Its packed_forward gives the same bits as the AVX-512 one: both fuse, both add in order of k. */
#if defined(__x86_64__)
#include "lib/kernels/lanes.h"
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define LANES 8
#define TILE_ROWS 6
#define LANES_TABLE lanes_avx2
#define LANES_NAME "avx2"
#define VEC_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define VEC_SQRT(a) ((vec)_mm256_sqrt_ps((__m256)(a)))

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#include "lib/kernels/lanes_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int lanes_avx2_not_here;
#endif
