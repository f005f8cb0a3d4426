/* A bfloat16 weight as products here read it, the rows for it, and how outputs leave. */
#ifndef SWARMGATE_PACKED_WEIGHT_H
#define SWARMGATE_PACKED_WEIGHT_H

#include "vectors.h"

#define MIN_PARALLEL_WEIGHTS (1 << 18) /* what is smaller is one thread's */

/* How a product has its weights laid out: in tiles of some outputs and inputs,
 *
 *     [groups of panels][tiles of a panel][panels of a group][pairs of inputs][outputs]
 *
 * so that a vector has a pair of inputs for each of some outputs. Where outputs or inputs end within
 * what a product takes at once, they are filled up with zeros. With scales, weights are integers: in
 * each tile a last vector says of what those of an output are multiples.
 */
struct layout {
    int64_t tile_outputs, tile_inputs; /* without tile_inputs a panel is a single tile */
    int64_t group_panels;
    int64_t output_multiple, input_multiple;
    int64_t has_scales;
};

struct packed_weight {
    const uint32_t *pairs; /* in a `layout` */
    const float *bias;     /* [num_outputs], or NULL */
    int64_t num_outputs;
    int64_t num_inputs;
};

/* Panels of LANES outputs, whole groups of them. */
static inline int64_t count_panels(const struct packed_weight *weight, int64_t group) {
    return (weight->num_outputs + LANES * group - 1) / (LANES * group) * group;
}

struct rows {
    const uint16_t *inputs; /* [num_rows, num_inputs], bfloat16 */
    void *outputs;          /* [num_rows, num_outputs] */
    int are_outputs_wide;   /* float32, else bfloat16 */
};

/* Sums of a row, from `output` on, leave; a bias is added before they are rounded. */
static inline void store_outputs(const struct packed_weight *weight, const struct rows *rows,
                                 floats sums, int64_t row, int64_t output) {
    const int64_t left = weight->num_outputs - output, at = row * weight->num_outputs + output;
    if (left <= 0) return;
    if (weight->bias) sums += widen_values((const char *)weight->bias, 1, output, left);
    if (!rows->are_outputs_wide)
        narrow_some(sums, left, (uint16_t *)rows->outputs + at);
    else if (left >= LANES)
        store((float *)rows->outputs + at, sums);
    else
        memcpy((float *)rows->outputs + at, &sums, (size_t)left * 4);
}

#endif
