/* Products of rows with a bfloat16 weight by AMX, summed up in float32.
 *
 * A tile of a weight is 16 outputs of 32 inputs, and tiles are multiplied 16 rows at a time: in 16
 * cycles, less than their way from memory takes, so that up to some 64 rows cost what one does. Each
 * output is one sum in the order of the inputs, however many rows and threads there are. Packed as
 * in bfloat16_product.c, with 16 LANES everywhere and inputs filled up to whole tiles.
 */
#define _DEFAULT_SOURCE /* for syscall */
#include <stdlib.h>

#include "packed_weight.h"
#include "tiles.h"

#define PANEL_OUTPUTS 16
#define TILE_INPUTS 32
#define TILE_NUMBERS (TILE_ROWS * PANEL_OUTPUTS)
#define GROUP 2 /* panels that rows go through together */
#define GROUP_OUTPUTS (GROUP * PANEL_OUTPUTS)
#ifndef AHEAD_BYTES
#define AHEAD_BYTES 16384 /* how far ahead a lone pass over a weight asks for it */
#endif
#define MAX_SCRATCH_BYTES (1 << 20) /* of gathered rows: what a second cache may hold */
#define LINE_BYTES 64

static inline int64_t count_tiles(int64_t num_inputs) {
    return (num_inputs + TILE_INPUTS - 1) / TILE_INPUTS;
}

/* Up to 16 rows from `first` on, as tiles: [num_tiles, 16, TILE_INPUTS], zeros where they end. */
static void gather_rows(const struct rows *rows, int64_t first, int64_t num_rows,
                        int64_t num_inputs, char *gathered) {
    for (int64_t input = 0; input < num_inputs; input += TILE_INPUTS) {
        const uint16_t *values = rows->inputs + first * num_inputs + input;
        const size_t bytes = 2 * (size_t)least(num_inputs - input, TILE_INPUTS);
        for (int64_t r = 0; r < TILE_ROWS; r++, values += num_inputs, gathered += TILE_ROW_BYTES) {
            if (r >= num_rows || bytes < TILE_ROW_BYTES) memset(gathered, 0, TILE_ROW_BYTES);
            if (r < num_rows) memcpy(gathered, values, bytes);
        }
    }
}

/* A tile of sums leaves: up to 16 rows, one panel. */
static void store_tile(const struct packed_weight *weight, const struct rows *rows,
                       const float *sums, int64_t first, int64_t num_rows, int64_t output) {
    for (int64_t r = 0; r < least(num_rows, TILE_ROWS); r++, sums += PANEL_OUTPUTS)
        for (int64_t i = 0; i < PANEL_OUTPUTS; i += LANES)
            store_outputs(weight, rows, load(sums + i), first + r, output + i);
}

struct block {
    const char *panels;  /* the first one */
    const char *inputs;  /* of one block of 16 rows, or of two: see gather_rows */
    int64_t num_tiles;   /* in a panel, and in one block's inputs */
    const char *ahead;   /* what will be wanted next, */
    int64_t ahead_lines; /* so many lines of it with each tile */
};

ALWAYS_INLINE void ask_ahead(const struct block *block, int64_t tile) {
    const char *line = block->ahead + tile * block->ahead_lines * LINE_BYTES;
    for (int64_t i = 0; i < block->ahead_lines; i++, line += LINE_BYTES)
        __builtin_prefetch(line, 0, 2);
}

/* 16 rows through a panel: here memory is waited for, and so one is read after the other. */
static void multiply_block(const struct block *block, float *sums) {
    CLEAR_TILE(0);
    for (int64_t tile = 0; tile < block->num_tiles; tile++) {
        ask_ahead(block, tile);
        LOAD_TILE(4, block->inputs + tile * TILE_BYTES);
        LOAD_TILE(6, block->panels + tile * TILE_BYTES);
        MULTIPLY_TILES(0, 4, 6);
    }
    STORE_TILE(0, sums);
}

/* 32 rows through two panels, so that a tile is multiplied for each one that is loaded. */
static void multiply_two_blocks(const struct block *block, float *sums) {
    const int64_t next = block->num_tiles * TILE_BYTES; /* panel, or block */
    CLEAR_TILE(0);
    CLEAR_TILE(1);
    CLEAR_TILE(2);
    CLEAR_TILE(3);
    for (int64_t tile = 0; tile < block->num_tiles; tile++) {
        ask_ahead(block, tile);
        const char *inputs = block->inputs + tile * TILE_BYTES;
        const char *panels = block->panels + tile * TILE_BYTES;
        LOAD_TILE(4, inputs);
        LOAD_TILE(6, panels);
        LOAD_TILE(7, panels + next);
        MULTIPLY_TILES(0, 4, 6);
        MULTIPLY_TILES(1, 4, 7);
        LOAD_TILE(5, inputs + next);
        MULTIPLY_TILES(2, 5, 6);
        MULTIPLY_TILES(3, 5, 7);
    }
    STORE_TILE(0, sums);
    STORE_TILE(1, sums + TILE_NUMBERS);
    STORE_TILE(2, sums + 2 * TILE_NUMBERS);
    STORE_TILE(3, sums + 3 * TILE_NUMBERS);
}

/* Rows [first, first + num_rows), by all threads of a team together.
 *
 * Pairs of blocks take turns at each two panels, which come from memory once and then from the
 * cache. Each asks for its share of the next two meanwhile.
 */
static void multiply_chunk(const struct packed_weight *weight, const struct rows *rows,
                           int64_t first, int64_t num_rows, char *scratch) {
    const int64_t num_tiles = count_tiles(weight->num_inputs), panel_bytes = num_tiles * TILE_BYTES;
    const int64_t num_blocks = (num_rows + TILE_ROWS - 1) / TILE_ROWS;
    const int64_t num_turns = (num_blocks + 1) / 2;
    const int64_t num_groups = (weight->num_outputs + GROUP_OUTPUTS - 1) / GROUP_OUTPUTS;
    float sums[GROUP * 2 * TILE_NUMBERS] __attribute__((aligned(64)));
#pragma omp for schedule(static)
    for (int64_t b = 0; b < num_blocks; b++)
        gather_rows(rows, first + b * TILE_ROWS, least(num_rows - b * TILE_ROWS, TILE_ROWS),
                    weight->num_inputs, scratch + b * panel_bytes);
    take_tiles();
#pragma omp for schedule(static)
    for (int64_t group = 0; group < num_groups; group++) {
        const char *panels = (const char *)weight->pairs + group * GROUP * panel_bytes;
        for (int64_t b = 0; b < num_blocks; b += 2) {
            const int64_t row = first + b * TILE_ROWS, left = num_rows - b * TILE_ROWS;
            struct block block = {
                .panels = panels,
                .inputs = scratch + b * panel_bytes,
                .num_tiles = num_tiles,
            };
            if (left <= TILE_ROWS) {
                for (int64_t p = 0; p < GROUP; p++, block.panels += panel_bytes) {
                    block.ahead = block.panels + (num_turns == 1 ? AHEAD_BYTES : GROUP * panel_bytes);
                    block.ahead_lines = TILE_BYTES / LINE_BYTES / num_turns;
                    multiply_block(&block, sums);
                    store_tile(weight, rows, sums, row, left,
                               group * GROUP_OUTPUTS + p * PANEL_OUTPUTS);
                }
                continue;
            }
            block.ahead = panels + GROUP * panel_bytes + GROUP * panel_bytes * (b / 2) / num_turns;
            block.ahead_lines = GROUP * TILE_BYTES / LINE_BYTES / num_turns;
            multiply_two_blocks(&block, sums);
            for (int64_t i = 0; i < 4; i++)
                store_tile(weight, rows, sums + i * TILE_NUMBERS, row + i / 2 * TILE_ROWS,
                           left - i / 2 * TILE_ROWS,
                           group * GROUP_OUTPUTS + i % 2 * PANEL_OUTPUTS);
        }
    }
    release_tiles();
}

/* What is filled up: outputs to whole groups of panels of so many, inputs to whole tiles. */
int64_t panel_outputs(void) { return PANEL_OUTPUTS; }

int64_t group_panels(void) { return GROUP; }

int64_t input_multiple(void) { return TILE_INPUTS; }

/* Whether this process may use tiles; asks for them. Else all is computed slowly. */
int32_t can_use_tiles(void) { return HAS_TILES && ask_for_tiles(); }

/* outputs = inputs @ weight.T + bias, for num_rows rows; returns whether there was memory. */
int32_t multiply_rows(const struct packed_weight *weight, const uint16_t *inputs, void *outputs,
                      int32_t are_outputs_wide, int64_t num_rows, int32_t num_threads) {
    const struct rows rows = {inputs, outputs, are_outputs_wide};
    const int64_t block_bytes = count_tiles(weight->num_inputs) * TILE_BYTES;
    const int64_t fitting = MAX_SCRATCH_BYTES / block_bytes / 2 * 2 * TILE_ROWS;
    const int64_t chunk = least(num_rows, most(fitting, 2 * TILE_ROWS));
    const int64_t num_blocks = (chunk + TILE_ROWS - 1) / TILE_ROWS;
    const int is_large = weight->num_outputs * weight->num_inputs >= MIN_PARALLEL_WEIGHTS;
    char *scratch = aligned_alloc(LINE_BYTES, (size_t)most(num_blocks * block_bytes, LINE_BYTES));
    if (!scratch) return 0;
#pragma omp parallel num_threads(num_threads) if (num_threads > 1 && is_large)
    for (int64_t first = 0; first < num_rows; first += chunk)
        multiply_chunk(weight, &rows, first, least(num_rows - first, chunk), scratch);
    free(scratch);
    return 1;
}
