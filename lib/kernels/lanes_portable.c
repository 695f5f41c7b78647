/* SPDX-License-Identifier: Apache-2.0
 * lanes_portable.c: lanes_body.h for whatever the compiler targets: 4 floats a vector, tiles of 6
 * rows x 8 outputs. Without a fused multiply-add the products round before they are added, so
 * packed_forward's last bits differ from those of the other sets (and are as batch invariant). */
#include "lib/kernels/lanes.h"
#include <math.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define LANES 4
#define TILE_ROWS 6
#define LANES_TABLE lanes_portable
#define LANES_NAME "portable"
#define VEC_FMA(a, b, c) ((a) * (b) + (c))
#if defined(__SSE2__)
#define VEC_SQRT(a) ((vec)_mm_sqrt_ps((__m128)(a)))
#else
#define VEC_SQRT(a) ((vec){sqrtf((a)[0]), sqrtf((a)[1]), sqrtf((a)[2]), sqrtf((a)[3])})
#endif

#include "lib/kernels/lanes_body.h"
