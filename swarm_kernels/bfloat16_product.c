/* Products of a few rows with a bfloat16 weight, summed up in float32, on any CPU with vectors.
 *
 * A bfloat16 number is the upper half of a float32: it is widened by a shift where it is used, and
 * memory is read for 16 bits a weight. Nothing asks for instructions that multiply bfloat16. Each
 * output is one sum in the order of the inputs, however many rows and threads there are: a row's
 * outputs do not depend, to the last bit, on the rows beside it. Built by build.py, called by
 * bfloat16_product.py. A weight is a row of panels of LANES outputs: see packed_weight.h.
 */
#include <stdlib.h>

#include "packed_weight.h"

#if NUM_REGISTERS == 32
#define MAX_ROWS 16 /* sums of so many rows fit the registers beside what they are made of */
#elif defined(__AVX__)
#define MAX_ROWS 12
#else
#define MAX_ROWS 8
#endif

#define GROUP 4 /* panels that few rows go through together, at most */
#define AHEAD_BYTES 4096 /* how far ahead in each panel a lone pass over a weight asks for it */
#define MAX_SCRATCH_BYTES (1000 << 10) /* of gathered rows: what a second cache may hold */

/* Rows [first, first + num_rows) as float32, [num_inputs, num_rows]; an odd input gets a zero. */
static void gather_rows(const struct rows *rows, int64_t first, int64_t num_rows,
                        int64_t num_inputs, float *gathered) {
    const uint16_t *values = rows->inputs + first * num_inputs;
    for (int64_t i = 0; i < num_inputs; i++)
        for (int64_t r = 0; r < num_rows; r++)
            gathered[i * num_rows + r] = widen(values[r * num_inputs + i]);
    if (num_inputs % 2)
        for (int64_t r = 0; r < num_rows; r++) gathered[num_inputs * num_rows + r] = 0.0f;
}

struct tile {
    const uint32_t *pairs; /* the first panel */
    const float *inputs;   /* see gather_rows */
    int64_t num_pairs;
    int64_t row, output; /* of the first row and panel */
    const char *ahead;   /* what will be wanted next of the first panel, as of the others, */
    int64_t ahead_step;  /* so many bytes of it with each pair */
};

/* `num_rows` and `num_panels` are constants wherever this is inlined. */
ALWAYS_INLINE void multiply_tile(
    const struct packed_weight *weight, const struct rows *rows, const struct tile *tile,
    const int num_rows, const int num_panels) {
    const int64_t num_pairs = tile->num_pairs, panel_bytes = num_pairs * LANES * 4;
    const float *inputs = tile->inputs;
    const char *ahead = tile->ahead;
    floats sums[MAX_ROWS][GROUP];
    for (int r = 0; r < num_rows; r++)
        for (int p = 0; p < num_panels; p++) sums[r][p] = (floats){0};
    for (int64_t pair = 0; pair < num_pairs; pair++, inputs += 2 * num_rows) {
        for (int p = 0; p < num_panels; p++) {
            __builtin_prefetch(ahead + p * panel_bytes, 0, 2);
            const words both = *(const words *)(tile->pairs + (p * num_pairs + pair) * LANES);
            const floats first = first_of(both), second = second_of(both);
            for (int r = 0; r < num_rows; r++) sums[r][p] += first * inputs[r];
            for (int r = 0; r < num_rows; r++) sums[r][p] += second * inputs[num_rows + r];
        }
        ahead += tile->ahead_step;
    }
    for (int r = 0; r < num_rows; r++)
        for (int p = 0; p < num_panels; p++)
            store_outputs(weight, rows, sums[r][p], tile->row + r, tile->output + p * LANES);
}

/* Few rows take several panels together: a lone sum waits for its own last addition. */
#define PANELS_OF(NUM_ROWS) ((NUM_ROWS) <= 2 ? 4 : (NUM_ROWS) <= 4 ? 2 : 1)

static void multiply(const struct packed_weight *weight, const struct rows *rows,
                     const struct tile *tile, int64_t num_rows) {
#define TILE(NUM_ROWS)                                                                             \
    case NUM_ROWS: multiply_tile(weight, rows, tile, NUM_ROWS, PANELS_OF(NUM_ROWS)); break;
    switch (num_rows) {
        TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) TILE(7) TILE(8)
#if MAX_ROWS > 8
        TILE(9) TILE(10) TILE(11) TILE(12)
#endif
#if MAX_ROWS > 12
        TILE(13) TILE(14) TILE(15) TILE(16)
#endif
    }
}

/* Rows [first, first + num_rows), by all threads of a team together.
 *
 * Blocks of rows take turns at each panel, which comes from memory once and then from the cache.
 * Each block asks for its share of the next panel meanwhile.
 */
static void multiply_chunk(const struct packed_weight *weight, const struct rows *rows,
                           int64_t first, int64_t num_rows, float *scratch) {
    const int64_t num_inputs = weight->num_inputs, num_pairs = (num_inputs + 1) / 2;
    const int64_t panel_bytes = num_pairs * LANES * 4;
    const int64_t num_blocks = (num_rows + MAX_ROWS - 1) / MAX_ROWS;
    const int64_t together = num_blocks > 1 ? 1 : PANELS_OF(num_rows);
#define START(BLOCK) (num_rows * (BLOCK) / num_blocks)
#pragma omp for schedule(static)
    for (int64_t b = 0; b < num_blocks; b++)
        gather_rows(rows, first + START(b), START(b + 1) - START(b), num_inputs,
                    scratch + START(b) * num_pairs * 2);
#pragma omp for schedule(static)
    for (int64_t panel = 0; panel < count_panels(weight, GROUP); panel += together) {
        const char *pairs = (const char *)weight->pairs + panel * panel_bytes;
        for (int64_t b = 0; b < num_blocks; b++) {
            const struct tile tile = {
                .pairs = (const uint32_t *)pairs,
                .inputs = scratch + START(b) * num_pairs * 2,
                .num_pairs = num_pairs,
                .row = first + START(b),
                .output = panel * LANES,
                .ahead = num_blocks == 1 ? pairs + AHEAD_BYTES
                                         : pairs + panel_bytes + panel_bytes * b / num_blocks,
                .ahead_step = LANES * 4 / num_blocks,
            };
            multiply(weight, rows, &tile, START(b + 1) - START(b));
        }
    }
}

void describe_layout(struct layout *layout) {
    *layout = (struct layout){
        .tile_outputs = LANES,
        .group_panels = 1,
        .output_multiple = LANES * GROUP,
        .input_multiple = 2,
    };
}

/* outputs = inputs @ weight.T + bias, for num_rows rows; returns whether there was memory. */
int32_t multiply_rows(const struct packed_weight *weight, const uint16_t *inputs, void *outputs,
                      int32_t are_outputs_wide, int64_t num_rows, int32_t num_threads) {
    const struct rows rows = {inputs, outputs, are_outputs_wide};
    const int64_t num_pairs = (weight->num_inputs + 1) / 2, row_bytes = 2 * num_pairs * 4;
    const int64_t fitting = MAX_SCRATCH_BYTES / row_bytes;
    const int64_t chunk = least(num_rows, most(fitting, MAX_ROWS));
    const int is_large = weight->num_outputs * weight->num_inputs >= MIN_PARALLEL_WEIGHTS;
    float *scratch = malloc((size_t)(chunk * row_bytes));
    if (!scratch) return num_rows == 0;
#pragma omp parallel num_threads(num_threads) if (num_threads > 1 && is_large)
    for (int64_t first = 0; first < num_rows; first += chunk)
        multiply_chunk(weight, &rows, first, least(num_rows - first, chunk), scratch);
    free(scratch);
    return 1;
}
