/* Products of rows with a bfloat16 weight in integers, by the processor's VNNI.
 *
 * 128 inputs of a row share a power of two, of which they are multiples of up to 13 bits, and so do
 * 128 weights of an output, of up to 15 (block floating point: see block_floats.py). A bfloat16
 * number has 8 bits, so all inputs are exact but those below a 32nd of the greatest of their block,
 * which err by less than a 2^13th of it. Processors multiply twice as many of such integers at a
 * time as of floats. What is summed up within a block is exact, and blocks are summed up in their
 * order: a row's outputs do not depend, to the last bit, on the rows beside it, nor on threads. A
 * processor without such instructions computes the same, slowly.
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
#define ALIGNMENT 64
#define SEGMENT_BLOCKS 32 /* of so many at a time two panels, and rows, stay in the second cache */
#define MAX_SCRATCH_BYTES (1000 << 10) /* of rows: what it may hold of them */

/* Few rows take more panels together: a lone sum waits for its own last addition. */
#define PANELS_OF(NUM_ROWS) ((NUM_ROWS) <= MAX_ROWS / 2 ? GROUP : 2)

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
    uint16_t ones[BLOCK_INPUTS];
    for (int i = 0; i < BLOCK_INPUTS; i++)
        ones[i] = (values[i] & 0x7fffu) != 0x7f80u ? 0u : values[i] >> 15 ? 0xffffu : 1u;
    memcpy(integers, ones, sizeof ones);
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

/* Some inputs of all: blocks [first, first + num_blocks). */
struct segment {
    int64_t first, num_blocks;
    int is_last;
};

/* Rows [first, first + num_rows) as integers; zeros where they end within a block. */
static void take_rows(const struct rows *rows, int64_t first, int64_t num_rows, int64_t num_inputs,
                      const struct segment *segment, uint32_t *pairs, float *scales) {
    uint16_t filled_up[BLOCK_INPUTS] = {0};
    for (int64_t block = segment->first; block < segment->first + segment->num_blocks; block++)
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
    const char *panels;  /* the first of them: [num_blocks, TILE_VECTORS] vectors each, */
    int64_t panel_bytes; /* so far apart */
    struct integer_rows inputs;
    const struct segment *segment;
    floats *kept;        /* [num_rows, num_panels] sums, from one segment to the next */
    int64_t row, output; /* of the first row and panel */
    const char *ahead;   /* what will be wanted next of the first panel, as of the others, */
    int64_t ahead_step;  /* so many bytes of it with each pair */
};

/* Sums leave, or are kept for the next segment. Not inlined, for it is as long as all else. */
static __attribute__((noinline)) void let_go(
    const struct packed_weight *weight, const struct rows *rows, const struct tile *tile,
    const floats *sums, int num_rows, int num_panels) {
    for (int r = 0; r < num_rows; r++, sums += GROUP)
        for (int p = 0; p < num_panels; p++)
            if (tile->segment->is_last)
                store_outputs(weight, rows, sums[p], tile->row + r, tile->output + p * LANES);
            else
                tile->kept[r * num_panels + p] = sums[p];
}

/* `num_rows` and `num_panels` are constants wherever this is inlined. */
ALWAYS_INLINE void multiply_tile(
    const struct packed_weight *weight, const struct rows *rows, const struct tile *tile,
    const int num_rows, const int num_panels) {
    const struct segment *segment = tile->segment;
    const int64_t panel_vectors = tile->panel_bytes / (LANES * 4);
    const words *panels = (const words *)tile->panels;
    const uint32_t *pairs = tile->inputs.pairs;
    const float *row_scales = tile->inputs.scales;
    const char *ahead = tile->ahead;
    floats sums[MAX_ROWS][GROUP];
    for (int r = 0; r < num_rows; r++)
        for (int p = 0; p < num_panels; p++)
            sums[r][p] = segment->first ? tile->kept[r * num_panels + p] : (floats){0};
    for (int64_t block = 0; block < segment->num_blocks; block++) {
        ints exact[MAX_ROWS][GROUP];
        for (int r = 0; r < num_rows; r++)
            for (int p = 0; p < num_panels; p++) exact[r][p] = (ints){0};
        for (int pair = 0; pair < BLOCK_PAIRS; pair++) {
            words vectors[GROUP];
            for (int p = 0; p < num_panels; p++) {
                __builtin_prefetch(ahead + p * tile->panel_bytes, 0, 2);
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
    let_go(weight, rows, tile, &sums[0][0], num_rows, num_panels);
}

static void multiply(const struct packed_weight *weight, const struct rows *rows,
                     const struct tile *tile, int64_t num_rows, int64_t num_panels) {
#define TILE(NUM_ROWS, NUM_PANELS)                                                                 \
    case NUM_ROWS: multiply_tile(weight, rows, tile, NUM_ROWS, NUM_PANELS); break;
    if (num_panels == GROUP)
        switch (num_rows) {
            TILE(1, GROUP) TILE(2, GROUP) TILE(3, GROUP) TILE(4, GROUP) TILE(5, GROUP) TILE(6, GROUP)
        }
    else
        switch (num_rows) {
            TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2) TILE(6, 2)
            TILE(7, 2) TILE(8, 2) TILE(9, 2) TILE(10, 2) TILE(11, 2) TILE(12, 2)
        }
}

struct scratch {
    uint32_t *pairs; /* see integer_rows */
    float *scales;
    floats *kept; /* [panels / 2, rows, 2], if there are several segments */
};

/* A segment of rows [first, first + num_rows), by all threads of a team together.
 *
 * Groups of rows take turns at each two panels, which come from memory once and then from the cache.
 * Each asks for its share of the next two meanwhile.
 */
static void multiply_segment(const struct packed_weight *weight, const struct rows *rows,
                             const struct segment *segment, int64_t first, int64_t num_rows,
                             const struct scratch *scratch) {
    const int64_t block_bytes = TILE_VECTORS * LANES * 4, num_blocks = segment->num_blocks;
    const int64_t panel_bytes = count_blocks(weight->num_inputs) * block_bytes;
    const int64_t num_groups = (num_rows + MAX_ROWS - 1) / MAX_ROWS;
    const int64_t together = num_groups > 1 ? 2 : PANELS_OF(num_rows);
#define START(GROUP_OF_ROWS) (num_rows * (GROUP_OF_ROWS) / num_groups)
#pragma omp for schedule(static)
    for (int64_t g = 0; g < num_groups; g++)
        take_rows(rows, first + START(g), START(g + 1) - START(g), weight->num_inputs, segment,
                  scratch->pairs + START(g) * num_blocks * BLOCK_PAIRS,
                  scratch->scales + START(g) * num_blocks);
#pragma omp for schedule(static)
    for (int64_t panel = 0; panel < count_panels(weight, GROUP); panel += together) {
        const char *panels = (const char *)weight->pairs + panel * panel_bytes
                             + segment->first * block_bytes;
        const int64_t share = num_blocks * block_bytes / num_groups;
        for (int64_t g = 0; g < num_groups; g++) {
            const struct tile tile = {
                .panels = panels,
                .panel_bytes = panel_bytes,
                .inputs = {scratch->pairs + START(g) * num_blocks * BLOCK_PAIRS,
                           scratch->scales + START(g) * num_blocks},
                .segment = segment,
                .kept = scratch->kept + panel * num_rows + START(g) * together,
                .row = first + START(g),
                .output = panel * LANES,
                .ahead = panels + (num_groups == 1 ? AHEAD_BYTES
                                                   : together * panel_bytes + share * g),
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
    /* A lone group of rows goes through panels from their beginning to their end. */
    const int64_t step = num_rows <= MAX_ROWS ? num_blocks : least(num_blocks, SEGMENT_BLOCKS);
    const int64_t row_bytes = step * (BLOCK_PAIRS + 1) * 4;
    const int64_t chunk = least(num_rows, most(MAX_SCRATCH_BYTES / row_bytes, MAX_ROWS));
    const int64_t kept_bytes = step < num_blocks ? count_panels(weight, GROUP) * LANES * 4 * chunk : 0;
    const int is_large = weight->num_outputs * weight->num_inputs >= MIN_PARALLEL_WEIGHTS;
    const int64_t rows_bytes = (chunk * row_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    char *memory = aligned_alloc(ALIGNMENT, (size_t)most(rows_bytes + kept_bytes, ALIGNMENT));
    if (!memory) return 0;
    const struct scratch scratch = {
        .pairs = (uint32_t *)memory,
        .scales = (float *)memory + chunk * step * BLOCK_PAIRS,
        .kept = (floats *)(memory + rows_bytes),
    };
#pragma omp parallel num_threads(num_threads) if (num_threads > 1 && is_large)
    for (int64_t first = 0; first < num_rows; first += chunk)
        for (int64_t block = 0; block < num_blocks; block += step) {
            const int64_t left = num_blocks - block;
            const struct segment segment = {block, least(left, step), left <= step};
            multiply_segment(weight, &rows, &segment, first, least(num_rows - first, chunk),
                             &scratch);
        }
    free(memory);
    return 1;
}
