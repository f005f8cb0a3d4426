/* What a block does to each bfloat16 token alone, between its products: one pass, not many.
 *
 * Sums and products are float32; a row comes out as the same bits whatever rows are beside it. Built
 * by build.py, called by row_operations.py. Strides count values; the values of one head or row lie
 * together.
 */
#include "vectors.h"

#define MIN_PARALLEL_ROWS 8

/* All of a row, 2 * LANES numbers at a time; what is called knows that most of them are all there. */
#define EACH_PAIRS(SIZE, CALL, ...)                                                                \
    do {                                                                                           \
        int64_t i = 0;                                                                             \
        for (; i + 2 * LANES <= (SIZE); i += 2 * LANES) CALL(i, 2 * LANES, __VA_ARGS__);           \
        if (i < (SIZE)) CALL(i, (SIZE) - i, __VA_ARGS__);                                          \
    } while (0)

ALWAYS_INLINE void add_squares(int64_t i, int64_t count, const uint16_t *values, floats sums[4]) {
    const struct pairs some = load_pairs(values + i, count);
    floats *two = sums + i / (2 * LANES) % 2 * 2; /* a lone sum waits for its own last addition */
    two[0] += some.first * some.first;
    two[1] += some.second * some.second;
}

ALWAYS_INLINE void scale(int64_t i, int64_t count, const uint16_t *values, float factor,
                         const uint16_t *weight, uint16_t *outputs) {
    const struct pairs some = load_pairs(values + i, count), by = load_pairs(weight + i, count);
    store_pairs((struct pairs){rounded(some.first * factor) * by.first,
                               rounded(some.second * factor) * by.second},
                count, outputs + i);
}

/* outputs = weight * round(rows / root mean square); rows [num_rows, size] */
void rms_norm(const uint16_t *rows, const uint16_t *weight, uint16_t *outputs, int64_t num_rows,
              int64_t size, float eps, int32_t num_threads) {
#pragma omp parallel for num_threads(num_threads) if (num_rows >= MIN_PARALLEL_ROWS)
    for (int64_t row = 0; row < num_rows; row++) {
        const uint16_t *values = rows + row * size;
        floats sums[4] = {{0}};
        EACH_PAIRS(size, add_squares, values, sums);
        const float squares = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
        const float factor = 1.0f / sqrtf(squares / (float)size + eps);
        EACH_PAIRS(size, scale, values, factor, weight, outputs + row * size);
    }
}

ALWAYS_INLINE void turn(int64_t i, int64_t count, const uint16_t *cos, const uint16_t *sin,
                        uint16_t *head, int64_t half) {
    const struct pairs x = load_pairs(head + i, count), y = load_pairs(head + half + i, count);
    const struct pairs xc = load_pairs(cos + i, count), yc = load_pairs(cos + half + i, count);
    const struct pairs xs = load_pairs(sin + i, count), ys = load_pairs(sin + half + i, count);
    store_pairs((struct pairs){x.first * xc.first + y.first * xs.first,
                               x.second * xc.second + y.second * xs.second},
                count, head + i);
    store_pairs((struct pairs){y.first * yc.first + x.first * ys.first,
                               y.second * yc.second + x.second * ys.second},
                count, head + half + i);
}

/* heads [num_rows, num_heads, head_dim] are turned in place; cos, sin [num_rows, head_dim] */
void rotate(uint16_t *heads, const uint16_t *cos, const uint16_t *sin, int64_t num_rows,
            int64_t row_stride, int64_t num_heads, int64_t head_dim, int32_t num_threads) {
#pragma omp parallel for num_threads(num_threads) if (num_rows >= MIN_PARALLEL_ROWS)
    for (int64_t row = 0; row < num_rows; row++)
        for (int64_t head = 0; head < num_heads; head++)
            EACH_PAIRS(head_dim / 2, turn, cos + row * head_dim, sin + row * head_dim,
                       heads + row * row_stride + head * head_dim, head_dim / 2);
}

static inline floats silu(floats x) { /* x / (1 + e^-x), of a power that cannot overflow */
    const floats power = exp_of_negative((floats)((words)x | 0x80000000u));
    return x * choose(x < 0.0f, power, (floats){0} + 1.0f) / (1.0f + power);
}

ALWAYS_INLINE void open_gates(int64_t i, int64_t count, const uint16_t *gates,
                              const uint16_t *ups, uint16_t *outputs) {
    const struct pairs some = load_pairs(gates + i, count), up = load_pairs(ups + i, count);
    store_pairs((struct pairs){rounded(silu(some.first)) * up.first,
                               rounded(silu(some.second)) * up.second},
                count, outputs + i);
}

/* outputs = round(silu(gates)) * ups; gates and ups [num_rows, size] lie beside each other */
void gate(const uint16_t *gates_ups, uint16_t *outputs, int64_t num_rows, int64_t size,
          int32_t num_threads) {
#pragma omp parallel for num_threads(num_threads) if (num_rows >= MIN_PARALLEL_ROWS)
    for (int64_t row = 0; row < num_rows; row++) {
        const uint16_t *gates = gates_ups + row * 2 * size;
        EACH_PAIRS(size, open_gates, gates, gates + size, outputs + row * size);
    }
}

/* slots[places[row]] = rows[row], of so many bytes each; no place comes twice */
void store_rows(const char *rows, const int64_t *places, char *slots, int64_t num_rows,
                int64_t row_stride, int64_t num_bytes, int32_t num_threads) {
#pragma omp parallel for num_threads(num_threads) if (num_rows >= MIN_PARALLEL_ROWS)
    for (int64_t row = 0; row < num_rows; row++)
        memcpy(slots + places[row] * num_bytes, rows + row * row_stride, num_bytes);
}
