/* What a block does to each bfloat16 token alone, between its products: one pass, not many.
 *
 * Sums and products are float32. Built by build.py, called by row_operations.py. Strides count
 * values; the values of one head or row lie together.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define MIN_PARALLEL_ROWS 8

static inline float read_value(const uint16_t *value) {
    uint32_t bits = (uint32_t)*value << 16;
    float exact;
    memcpy(&exact, &bits, sizeof exact);
    return exact;
}

static inline uint16_t round_value(float value) { /* to nearest, ties to even, as torch rounds */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)(value != value ? 0x7fc0 : rounded);
}

/* outputs = weight * round(rows / root mean square); rows [num_rows, size] */
void rms_norm(const uint16_t *rows, const uint16_t *weight, uint16_t *outputs, int64_t num_rows,
              int64_t size, float eps, int32_t num_threads) {
#pragma omp parallel for num_threads(num_threads) if (num_rows >= MIN_PARALLEL_ROWS)
    for (int64_t row = 0; row < num_rows; row++) {
        const uint16_t *values = rows + row * size;
        uint16_t *normed = outputs + row * size;
        float sum = 0.0f;
        for (int64_t i = 0; i < size; i++) sum += read_value(values + i) * read_value(values + i);
        const float factor = 1.0f / sqrtf(sum / (float)size + eps);
        for (int64_t i = 0; i < size; i++) {
            const uint16_t rounded = round_value(read_value(values + i) * factor);
            normed[i] = round_value(read_value(weight + i) * read_value(&rounded));
        }
    }
}

/* heads [num_rows, num_heads, head_dim] are turned in place; cos, sin [num_rows, head_dim] */
void rotate(uint16_t *heads, const uint16_t *cos, const uint16_t *sin, int64_t num_rows,
            int64_t row_stride, int64_t num_heads, int64_t head_dim, int32_t num_threads) {
    const int64_t half = head_dim / 2;
#pragma omp parallel for num_threads(num_threads) if (num_rows >= MIN_PARALLEL_ROWS)
    for (int64_t row = 0; row < num_rows; row++) {
        const uint16_t *c = cos + row * head_dim, *s = sin + row * head_dim;
        for (int64_t head = 0; head < num_heads; head++) {
            uint16_t *restrict first = heads + row * row_stride + head * head_dim;
            uint16_t *restrict second = first + half;
            for (int64_t i = 0; i < half; i++) {
                const float x = read_value(first + i), y = read_value(second + i);
                first[i] = round_value(x * read_value(c + i) + y * read_value(s + i));
                second[i] = round_value(y * read_value(c + half + i) + x * read_value(s + half + i));
            }
        }
    }
}
