/* Products of rows with a bfloat16 weight in integers, by the processor's VNNI.
 *
 * 128 inputs of a row share a power of two, of which they are multiples of up to 13 bits, and so do
 * 128 weights of an output, of up to 15 (block floating point: see block_floats.py). A bfloat16
 * number has 8 bits, so all are exact but those that are less than a 32nd of the greatest of their
 * block, and these err by less than a 2^13th of it. Processors multiply twice as many of such integers at a
 * time as of floats, and what is summed up within a block is exact; blocks are summed up in their order.
 * A row's outputs do not depend, to the last bit, on the rows beside it, nor on threads. A processor
 * without such instructions computes the same, slowly.
 */
#include <stdlib.h>

#include "packed_weight.h"

#define BLOCK_INPUTS 128
#define BLOCK_PAIRS (BLOCK_INPUTS / 2)
#define TILE_VECTORS (BLOCK_PAIRS + 1) /* a tile ends with the scales of its outputs */
#define ROW_BITS 13 /* times 2^18, the sum of an output's weights in a block, is below 2^31 */

#define MIN_EXPONENT 47 /* of bfloat16; 2^-80 */

#define MAX_ROWS 12 /* their sums for two panels fit the registers beside what they are made of */
#define GROUP 4     /* panels that few rows go through together, at most */
#define AHEAD_BYTES 4096 /* how far ahead in each panel a lone pass over a weight asks for it */
#define MAX_SCRATCH_BYTES (1000 << 10) /* of rows: what a second cache may hold */

/* Few rows take more panels together: a lone sum waits for its own last addition. */
#define PANELS_OF(NUM_ROWS) ((NUM_ROWS) <= MAX_ROWS / 2 ? GROUP : 2)

static inline int64_t count_panels(const struct packed_weight *weight) {
    return (weight->num_outputs + LANES * GROUP - 1) / (LANES * GROUP) * GROUP;
}

static inline int64_t count_blocks(int64_t num_inputs) {
    return (num_inputs + BLOCK_INPUTS - 1) / BLOCK_INPUTS;
}

/* Rows as integers: see take_rows. */
struct integer_rows {
    const uint32_t *pairs; /* [num_blocks, num_rows, BLOCK_PAIRS] */
    const float *scales;   /* [num_blocks, num_rows] */
};

/* Infinities are ones, all else is zero; a number that is none makes none of all outputs. */
static float take_spoiled_block(const uint16_t *values, uint32_t highest, uint16_t *integers) {
    for (int i = 0; i < BLOCK_INPUTS; i++)
        integers[i] = (values[i] & 0x7fffu) != 0x7f80u ? 0u : values[i] >> 15 ? 0xffffu : 1u;
    return highest > 0x7f80u ? NAN : INFINITY;
}

/* A block as integers; returns of what they are multiples. */
static inline float take_block(const uint16_t *values, uint16_t *integers) {
    uint16_t highest = 0;
    for (int i = 0; i < BLOCK_INPUTS; i++) {
        const uint16_t size = values[i] & 0x7fffu;
        highest = size > highest ? size : highest;
    }
    if (highest >= 0x7f80u) return take_spoiled_block(values, highest, integers);
    /* What is far below that becomes zero: times a scale of weights it would be no normal number,
     * with which processors take a hundred times as long. */
    const int32_t exponent = (int32_t)most(highest >> 7, MIN_EXPONENT);
    const float per_integer = widen((uint16_t)((exponent - ROW_BITS + 1) << 7));
    const float integers_per = widen((uint16_t)((253 - exponent + ROW_BITS) << 7));
    const floats magic = (floats){0} + 12582912.0f; /* its lowest bits: the integer */
    for (int i = 0; i < BLOCK_INPUTS; i += LANES) {
        const words shifted = (words)(widen_some(values + i, LANES) * integers_per + magic);
        const halves narrowed = __builtin_convertvector(shifted, halves);
        memcpy(integers + i, &narrowed, sizeof narrowed);
    }
    return per_integer;
}

/* Rows [first, first + num_rows) as integers; zeros where they end within a block. */
static void take_rows(const struct rows *rows, int64_t first, int64_t num_rows, int64_t num_inputs,
                      uint32_t *pairs, float *scales) {
    uint16_t filled_up[BLOCK_INPUTS] = {0};
    for (int64_t block = 0; block < count_blocks(num_inputs); block++)
        for (int64_t r = 0; r < num_rows; r++, pairs += BLOCK_PAIRS) {
            const int64_t at = block * BLOCK_INPUTS, left = num_inputs - at;
            const uint16_t *values = rows->inputs + (first + r) * num_inputs + at;
            if (left < BLOCK_INPUTS) values = memcpy(filled_up, values, (size_t)left * 2);
            *scales++ = take_block(values, (uint16_t *)pairs);
        }
}

/* sums + a pair of each times a pair of the other. */
ALWAYS_INLINE ints add_products(ints sums, words left, words right) {
#if defined(__AVX512VNNI__)
    /* GCC 12 copies the sums to and fro when its own function is used. */
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(left), "v"(right));
    return sums;
#else
    const ints first = ((ints)(left << 16) >> 16) * ((ints)(right << 16) >> 16);
    return sums + first + ((ints)left >> 16) * ((ints)right >> 16);
#endif
}

struct tile {
    const char *panels; /* the first of them: [num_blocks, TILE_VECTORS] vectors each */
    struct integer_rows inputs;
    int64_t num_blocks;
    int64_t row, output; /* of the first row and panel */
    const char *ahead;   /* what will be wanted next of the first panel, as of the others, */
    int64_t ahead_step;  /* so many bytes of it with each pair */
};

/* `num_rows` and `num_panels` are constants wherever this is inlined. */
ALWAYS_INLINE void multiply_tile(
    const struct packed_weight *weight, const struct rows *rows, const struct tile *tile,
    const int num_rows, const int num_panels) {
    const int64_t panel_vectors = tile->num_blocks * TILE_VECTORS;
    const words *panels = (const words *)tile->panels;
    const uint32_t *pairs = tile->inputs.pairs;
    const float *row_scales = tile->inputs.scales;
    const char *ahead = tile->ahead;
    floats sums[MAX_ROWS][GROUP];
    for (int r = 0; r < num_rows; r++)
        for (int p = 0; p < num_panels; p++) sums[r][p] = (floats){0};
    for (int64_t block = 0; block < tile->num_blocks; block++) {
        ints exact[MAX_ROWS][GROUP];
        for (int r = 0; r < num_rows; r++)
            for (int p = 0; p < num_panels; p++) exact[r][p] = (ints){0};
        for (int pair = 0; pair < BLOCK_PAIRS; pair++) {
            words vectors[GROUP];
            for (int p = 0; p < num_panels; p++) {
                __builtin_prefetch(ahead + p * panel_vectors * LANES * 4, 0, 2);
                vectors[p] = panels[p * panel_vectors + pair];
            }
            for (int r = 0; r < num_rows; r++) {
                const words input = (words){0} + pairs[r * BLOCK_PAIRS + pair];
                for (int p = 0; p < num_panels; p++)
                    exact[r][p] = add_products(exact[r][p], vectors[p], input);
            }
            ahead += tile->ahead_step;
        }
        for (int r = 0; r < num_rows; r++)
            for (int p = 0; p < num_panels; p++) {
                const floats scales = (floats)panels[p * panel_vectors + BLOCK_PAIRS];
                sums[r][p] += __builtin_convertvector(exact[r][p], floats) * (scales * row_scales[r]);
            }
        panels += TILE_VECTORS, pairs += num_rows * BLOCK_PAIRS, row_scales += num_rows;
    }
    for (int r = 0; r < num_rows; r++)
        for (int p = 0; p < num_panels; p++)
            store_outputs(weight, rows, sums[r][p], tile->row + r, tile->output + p * LANES);
}

static void multiply(const struct packed_weight *weight, const struct rows *rows,
                     const struct tile *tile, int64_t num_rows, int64_t num_panels) {
#define TILE(NUM_ROWS)                                                                             \
    case NUM_ROWS:                                                                                 \
        if (num_panels == 2)                                                                       \
            multiply_tile(weight, rows, tile, NUM_ROWS, 2);                                        \
        else                                                                                       \
            multiply_tile(weight, rows, tile, NUM_ROWS, PANELS_OF(NUM_ROWS));                      \
        break;
    switch (num_rows) {
        TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
        TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
    }
}

/* Rows [first, first + num_rows), by all threads of a team together.
 *
 * Groups of rows take turns at each two panels, which come from memory once and then from the cache.
 * Each asks for its share of the next two meanwhile.
 */
static void multiply_chunk(const struct packed_weight *weight, const struct rows *rows,
                           int64_t first, int64_t num_rows, uint32_t *pairs, float *scales) {
    const int64_t num_inputs = weight->num_inputs, num_blocks = count_blocks(num_inputs);
    const int64_t panel_bytes = num_blocks * TILE_VECTORS * LANES * 4;
    const int64_t num_groups = (num_rows + MAX_ROWS - 1) / MAX_ROWS;
    const int64_t together = num_groups > 1 ? 2 : PANELS_OF(num_rows);
#define START(GROUP_OF_ROWS) (num_rows * (GROUP_OF_ROWS) / num_groups)
#pragma omp for schedule(static)
    for (int64_t g = 0; g < num_groups; g++)
        take_rows(rows, first + START(g), START(g + 1) - START(g), num_inputs,
                  pairs + START(g) * num_blocks * BLOCK_PAIRS, scales + START(g) * num_blocks);
#pragma omp for schedule(static)
    for (int64_t panel = 0; panel < count_panels(weight); panel += together) {
        const char *panels = (const char *)weight->pairs + panel * panel_bytes;
        for (int64_t g = 0; g < num_groups; g++) {
            const struct tile tile = {
                .panels = panels,
                .inputs = {pairs + START(g) * num_blocks * BLOCK_PAIRS,
                           scales + START(g) * num_blocks},
                .num_blocks = num_blocks,
                .row = first + START(g),
                .output = panel * LANES,
                .ahead = num_groups == 1
                             ? panels + AHEAD_BYTES
                             : panels + together * panel_bytes + panel_bytes * g / num_groups,
                .ahead_step = LANES * 4 / num_groups + (num_groups > 1),
            };
            multiply(weight, rows, &tile, START(g + 1) - START(g), together);
        }
    }
}

void describe_layout(struct layout *layout) {
    *layout = (struct layout){
        .tile_outputs = LANES,
        .tile_inputs = BLOCK_INPUTS,
        .group_panels = 1,
        .output_multiple = LANES * GROUP,
        .input_multiple = BLOCK_INPUTS,
        .has_scales = 1,
    };
}

/* outputs = inputs @ weight.T + bias, for num_rows rows; returns whether there was memory. */
int32_t multiply_rows(const struct packed_weight *weight, const uint16_t *inputs, void *outputs,
                      int32_t are_outputs_wide, int64_t num_rows, int32_t num_threads) {
    const struct rows rows = {inputs, outputs, are_outputs_wide};
    const int64_t num_blocks = count_blocks(weight->num_inputs);
    const int64_t row_bytes = num_blocks * (BLOCK_PAIRS + 1) * 4;
    const int64_t chunk = least(num_rows, most(MAX_SCRATCH_BYTES / row_bytes, MAX_ROWS));
    const int is_large = weight->num_outputs * weight->num_inputs >= MIN_PARALLEL_WEIGHTS;
    uint32_t *pairs = malloc((size_t)(chunk * row_bytes));
    if (!pairs) return num_rows == 0;
    float *scales = (float *)(pairs + chunk * num_blocks * BLOCK_PAIRS);
#pragma omp parallel num_threads(num_threads) if (num_threads > 1 && is_large)
    for (int64_t first = 0; first < num_rows; first += chunk)
        multiply_chunk(weight, &rows, first, least(num_rows - first, chunk), pairs, scales);
    free(pairs);
    return 1;
}
