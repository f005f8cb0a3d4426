/* Products of rows with a bfloat16 weight by AMX, summed up in float32.
 *
 * A tile of a weight is 16 outputs of 32 inputs, and tiles are multiplied 16 rows at a time: in 16
 * cycles, less than their way from memory takes, so that up to 32 rows cost what one does. With many
 * rows their way from the second cache to the first is the limit. Each output is one sum in the order
 * of the inputs, however many rows and threads there are. Two panels lie together, a tile of each in
 * turn (see packed_weight.h), and so do two blocks of 16 rows: each is read from its beginning to its
 * end.
 */
#define _DEFAULT_SOURCE /* for syscall */
#include <stdlib.h>

#include "packed_weight.h"
#include "amx_tiles.h"

#define SIDE 2 /* panels in a group, and blocks of rows that go through it together */
#define TILE_INPUTS 32
#define TILE_OUTPUTS 16
#define TILE_NUMBERS (TILE_ROWS * TILE_OUTPUTS)
#define GROUP_OUTPUTS (SIDE * TILE_OUTPUTS)
#define GROUP_ROWS (SIDE * TILE_ROWS)
#define AHEAD_BYTES 16384 /* how far ahead a lone pass over a weight asks for it */
#define MAX_SCRATCH_BYTES (1 << 20) /* of gathered rows: what a second cache may hold */
#define LINE_BYTES 64

static inline int64_t count_tiles(int64_t num_inputs) {
    return (num_inputs + TILE_INPUTS - 1) / TILE_INPUTS;
}

/* Up to 16 rows from `first` on, as tiles that lie `stride` apart, with zeros where they end. */
static void gather_rows(const struct rows *rows, int64_t first, int64_t num_rows,
                        int64_t num_inputs, int64_t stride, char *gathered) {
    for (int64_t input = 0; input < num_inputs; input += TILE_INPUTS, gathered += stride) {
        const uint16_t *values = rows->inputs + first * num_inputs + input;
        const size_t bytes = 2 * (size_t)least(num_inputs - input, TILE_INPUTS);
        if (num_rows < TILE_ROWS || bytes < TILE_ROW_BYTES) memset(gathered, 0, TILE_BYTES);
        for (int64_t r = 0; r < num_rows; r++)
            memcpy(gathered + r * TILE_ROW_BYTES, values + r * num_inputs, bytes);
    }
}

/* What is multiplied: a group of panels, and one or two blocks of rows; and what it will be next. */
struct square {
    const char *inputs; /* [num_tiles, num_blocks] tiles: see gather_rows */
    const char *panels; /* [num_tiles, SIDE] tiles */
    int64_t num_tiles;
    int64_t row, num_rows; /* at most GROUP_ROWS */
    int64_t output;
    const char *ahead;   /* what will be wanted next, */
    int64_t ahead_bytes; /* so much of it with each tile */
};

ALWAYS_INLINE void ask_ahead(const struct square *square, int64_t tile) {
    const char *line = square->ahead + tile * square->ahead_bytes;
    for (int64_t i = 0; i < square->ahead_bytes; i += LINE_BYTES) __builtin_prefetch(line + i, 0, 2);
}

/* [num_blocks, SIDE] tiles of sums. Of two blocks, a tile is multiplied for each one that is loaded.
 * `num_blocks` is a constant wherever this is inlined. */
ALWAYS_INLINE void multiply_blocks(const struct square *square, float *sums, const int num_blocks) {
    const char *inputs = square->inputs, *panels = square->panels;
    CLEAR_TILE(0);
    CLEAR_TILE(1);
    if (num_blocks == 2) {
        CLEAR_TILE(2);
        CLEAR_TILE(3);
    }
    for (int64_t tile = 0; tile < square->num_tiles; tile++) {
        ask_ahead(square, tile);
        LOAD_TILE(4, inputs);
        LOAD_TILE(6, panels);
        LOAD_TILE(7, panels + TILE_BYTES);
        MULTIPLY_TILES(0, 4, 6);
        MULTIPLY_TILES(1, 4, 7);
        if (num_blocks == 2) {
            LOAD_TILE(5, inputs + TILE_BYTES);
            MULTIPLY_TILES(2, 5, 6);
            MULTIPLY_TILES(3, 5, 7);
        }
        inputs += num_blocks * TILE_BYTES, panels += SIDE * TILE_BYTES;
    }
    STORE_TILE(0, sums);
    STORE_TILE(1, sums + TILE_NUMBERS);
    if (num_blocks == 2) {
        STORE_TILE(2, sums + 2 * TILE_NUMBERS);
        STORE_TILE(3, sums + 3 * TILE_NUMBERS);
    }
}

/* A row of both panels leaves. */
static inline void store_row(const struct packed_weight *weight, const struct rows *rows,
                             const float *sums, int64_t row, int64_t output) {
    const float *left = sums, *right = sums + TILE_NUMBERS;
#if defined(__AVX512BF16__)
    if (!rows->are_outputs_wide && !weight->bias && weight->num_outputs - output >= GROUP_OUTPUTS) {
        const __m512bh both = _mm512_cvtne2ps_pbh(_mm512_load_ps(right), _mm512_load_ps(left));
        memcpy((uint16_t *)rows->outputs + row * weight->num_outputs + output, &both, sizeof both);
        return;
    }
#endif
    for (int64_t i = 0; i < TILE_OUTPUTS; i += LANES) {
        store_outputs(weight, rows, load(left + i), row, output + i);
        store_outputs(weight, rows, load(right + i), row, output + TILE_OUTPUTS + i);
    }
}

static void multiply(const struct packed_weight *weight, const struct rows *rows,
                     const struct square *square) {
    float sums[SIDE * SIDE * TILE_NUMBERS] __attribute__((aligned(64)));
    if (square->num_rows <= TILE_ROWS)
        multiply_blocks(square, sums, 1);
    else
        multiply_blocks(square, sums, 2);
    for (int64_t r = 0; r < square->num_rows; r++) {
        const int64_t tile = r / TILE_ROWS * SIDE, at = r % TILE_ROWS * TILE_OUTPUTS;
        store_row(weight, rows, sums + tile * TILE_NUMBERS + at, square->row + r, square->output);
    }
}

/* Rows [first, first + num_rows), by all threads of a team together.
 *
 * Groups of rows take turns at each group of panels, which comes from memory once and then from the
 * cache. Each asks for its share of the next group meanwhile.
 */
static void multiply_chunk(const struct packed_weight *weight, const struct rows *rows,
                           int64_t first, int64_t num_rows, char *scratch) {
    const int64_t num_tiles = count_tiles(weight->num_inputs);
    const int64_t panel_bytes = num_tiles * TILE_BYTES, group_bytes = SIDE * panel_bytes;
    const int64_t num_turns = (num_rows + GROUP_ROWS - 1) / GROUP_ROWS;
#pragma omp for schedule(static)
    for (int64_t row = 0; row < num_rows; row += TILE_ROWS) {
        const int64_t block = row % GROUP_ROWS / TILE_ROWS, group = row / GROUP_ROWS;
        const int64_t is_alone = num_rows - group * GROUP_ROWS <= TILE_ROWS;
        gather_rows(rows, first + row, least(num_rows - row, TILE_ROWS), weight->num_inputs,
                    is_alone ? TILE_BYTES : SIDE * TILE_BYTES,
                    scratch + group * group_bytes + block * TILE_BYTES);
    }
    take_tiles();
#pragma omp for schedule(static)
    for (int64_t output = 0; output < weight->num_outputs; output += GROUP_OUTPUTS)
        for (int64_t turn = 0; turn < num_turns; turn++) {
            const char *panels = (const char *)weight->pairs + output / TILE_OUTPUTS * panel_bytes;
            const int64_t ahead = num_turns == 1 ? AHEAD_BYTES
                                                 : group_bytes + group_bytes * turn / num_turns;
            const struct square square = {
                .inputs = scratch + turn * group_bytes,
                .panels = panels,
                .num_tiles = num_tiles,
                .row = first + turn * GROUP_ROWS,
                .num_rows = least(num_rows - turn * GROUP_ROWS, GROUP_ROWS),
                .output = output,
                .ahead = panels + ahead,
                .ahead_bytes = SIDE * TILE_BYTES / num_turns,
            };
            multiply(weight, rows, &square);
        }
    release_tiles();
}

void describe_layout(struct layout *layout) {
    *layout = (struct layout){
        .tile_outputs = TILE_OUTPUTS,
        .tile_inputs = TILE_INPUTS,
        .group_panels = SIDE,
        .output_multiple = GROUP_OUTPUTS,
        .input_multiple = TILE_INPUTS,
    };
}

/* Whether this process may use tiles; asks for them. Else all is computed slowly. */
int32_t can_use_amx(void) { return HAS_TILES && ask_for_tiles(); }

/* outputs = inputs @ weight.T + bias, for num_rows rows; returns whether there was memory. */
int32_t multiply_rows(const struct packed_weight *weight, const uint16_t *inputs, void *outputs,
                      int32_t are_outputs_wide, int64_t num_rows, int32_t num_threads) {
    const struct rows rows = {inputs, outputs, are_outputs_wide};
    const int64_t group_bytes = SIDE * count_tiles(weight->num_inputs) * TILE_BYTES;
    const int64_t fitting = most(MAX_SCRATCH_BYTES / group_bytes, 1);
    const int64_t num_groups = least((num_rows + GROUP_ROWS - 1) / GROUP_ROWS, fitting);
    const int is_large = weight->num_outputs * weight->num_inputs >= MIN_PARALLEL_WEIGHTS;
    char *scratch = aligned_alloc(LINE_BYTES, (size_t)most(num_groups * group_bytes, LINE_BYTES));
    if (!scratch) return 0;
#pragma omp parallel num_threads(num_threads) if (num_threads > 1 && is_large)
    for (int64_t first = 0; first < num_rows; first += num_groups * GROUP_ROWS)
        multiply_chunk(weight, &rows, first, least(num_rows - first, num_groups * GROUP_ROWS),
                       scratch);
    free(scratch);
    return 1;
}
