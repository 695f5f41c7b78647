/* SPDX-License-Identifier: Apache-2.0
 * lanes_packed.h: the serving product, part of lanes_body.h. A tile of R rows x V vectors of
 * outputs lives in registers while k runs; R changes which elements are computed together and
 * never how one of them is: each is a chain of VEC_FMA from its bias over k = 0, 1, .... The depth
 * is cut into DEPTH blocks so that a panel's piece stays in the first-level cache; between two
 * blocks an element rests in y as the very f32 that it was, so the cut changes no bit either. */
enum { DEPTH = 256, STRIP = 2 * LANES, WIDE_PANELS = 4 };

struct tile_args {
        const float *w; /* [depth][step]: this strip's outputs */
        size_t step;
        const float *x; /* [rows, depth] */
        size_t ldx;
        uint32_t depth;
        const float *start; /* what the chains start from: bias (ld 0) or y */
        size_t start_ld;
        float *y;
        size_t ldy;
};
typedef void tile_fn(const struct tile_args *a);

INLINE void tile(const struct tile_args *a, const int rows, const int vecs)
{
        vec acc[TILE_ROWS][2];
        const float *w = a->w, *x = a->x;
        const size_t step = a->step, ldx = a->ldx;

        UNROLL
        for (int r = 0; r < rows; r++) {
                UNROLL
                for (int v = 0; v < vecs; v++)
                        acc[r][v] = load(a->start + (size_t)r * a->start_ld + v * LANES);
        }
        for (uint32_t k = 0; k < a->depth; k++, w += step, x++) {
                vec weight[2];
                UNROLL
                for (int v = 0; v < vecs; v++)
                        weight[v] = load(w + v * LANES);
                UNROLL
                for (int r = 0; r < rows; r++) {
                        const vec one = splat(x[(size_t)r * ldx]);
                        UNROLL
                        for (int v = 0; v < vecs; v++)
                                acc[r][v] = VEC_FMA(one, weight[v], acc[r][v]);
                }
        }
        UNROLL
        for (int r = 0; r < rows; r++) {
                UNROLL
                for (int v = 0; v < vecs; v++)
                        store(a->y + (size_t)r * a->ldy + v * LANES, acc[r][v]);
        }
}

#define TILE(R)                                                                                    \
        static void tile_##R##_1(const struct tile_args *a)                                        \
        {                                                                                          \
                tile(a, R, 1);                                                                     \
        }                                                                                          \
        static void tile_##R##_2(const struct tile_args *a)                                        \
        {                                                                                          \
                tile(a, R, 2);                                                                     \
        }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
#if TILE_ROWS == 12
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
#endif

static tile_fn *const tiles[TILE_ROWS][2] = {
        {tile_1_1, tile_1_2},   {tile_2_1, tile_2_2},   {tile_3_1, tile_3_2},
        {tile_4_1, tile_4_2},   {tile_5_1, tile_5_2},   {tile_6_1, tile_6_2},
#if TILE_ROWS == 12
        {tile_7_1, tile_7_2},   {tile_8_1, tile_8_2},   {tile_9_1, tile_9_2},
        {tile_10_1, tile_10_2}, {tile_11_1, tile_11_2}, {tile_12_1, tile_12_2},
#endif
};

/* One row leaves the adders idle in a single strip: four panels at a time fill them. */
INLINE void tile_wide(const struct tile_args *a, size_t panel_floats)
{
        vec acc[WIDE_PANELS][2];
        const float *w = a->w;

        UNROLL
        for (int p = 0; p < WIDE_PANELS; p++) {
                UNROLL
                for (int v = 0; v < 2; v++)
                        acc[p][v] = load(a->start + p * PANEL + v * LANES);
        }
        for (uint32_t k = 0; k < a->depth; k++, w += PANEL) {
                const vec one = splat(a->x[k]);
                UNROLL
                for (int p = 0; p < WIDE_PANELS; p++) {
                        UNROLL
                        for (int v = 0; v < 2; v++)
                                acc[p][v] =
                                        VEC_FMA(one, load(w + (size_t)p * panel_floats + v * LANES),
                                                acc[p][v]);
                }
        }
        UNROLL
        for (int p = 0; p < WIDE_PANELS; p++) {
                UNROLL
                for (int v = 0; v < 2; v++)
                        store(a->y + p * PANEL + v * LANES, acc[p][v]);
        }
}

/* All rows of one strip, in tiles of nearly equal height. */
INLINE void strip_rows(struct tile_args a, uint32_t n, int vecs)
{
        uint32_t left = n;
        for (uint32_t count = (n + TILE_ROWS - 1) / TILE_ROWS; count > 0; count--) {
                const uint32_t rows = (left + count - 1) / count;
                tiles[rows - 1][vecs - 1](&a);
                a.x += rows * a.ldx;
                a.y += rows * a.ldy;
                a.start += rows * a.start_ld;
                left -= rows;
        }
}

static void lane_packed_forward(const float *packed, uint32_t in, uint32_t out, const float *x,
                                size_t ldx, uint32_t n, float *y, size_t ldy)
{
        const uint32_t padded = (uint32_t)padded_width(out);
        const float *panels = packed + padded;
        const size_t panel_floats = (size_t)in * PANEL;

        for (uint32_t k = 0; k == 0 || k < in; k += DEPTH) {
                const uint32_t depth = in - k < DEPTH ? in - k : DEPTH;
                uint32_t skip = 0; /* panels that tile_wide has done already */
                for (uint32_t first = 0; first < padded; first += PANEL) {
                        const uint32_t width = panel_width(padded, first);
                        const bool wide = n == 1 && first + WIDE_PANELS * PANEL <= padded;
                        if (skip > 0) {
                                skip--;
                                continue;
                        }
                        for (uint32_t c = 0; c < width; c += STRIP) {
                                struct tile_args a = {
                                        .w = panels + (size_t)first * in + (size_t)k * width + c,
                                        .step = width,
                                        .x = x + k,
                                        .ldx = ldx,
                                        .depth = depth,
                                        .start = k == 0 ? packed + first + c : y + first + c,
                                        .start_ld = k == 0 ? 0 : ldy,
                                        .y = y + first + c,
                                        .ldy = ldy,
                                };
                                if (wide)
                                        tile_wide(&a, panel_floats);
                                else
                                        strip_rows(a, n, width - c < STRIP ? 1 : 2);
                        }
                        skip = wide ? WIDE_PANELS - 1 : 0;
                }
        }
}
