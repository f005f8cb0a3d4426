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

/* e^x for x <= 0, to about 2 units in the last place; vectorises, which expf does not. */
static inline float exp_of_negative(float x) {
    float scaled = x * 1.44269504088896341f;
    scaled = scaled < -126.0f ? -126.0f : scaled; /* not-a-number stays what it is */
    const float whole = floorf(scaled), f = (scaled - whole) * 0.693147180559945309f;
    const float power = 1.0f + f * (1.0f + f * (0.5f + f * (1.6666667e-1f + f * (4.1666667e-2f
        + f * (8.3333333e-3f + f * (1.3888889e-3f + f * 1.984127e-4f))))));
    const uint32_t bits = (uint32_t)((int32_t)whole + 127) << 23;
    float factor;
    memcpy(&factor, &bits, sizeof factor);
    return power * factor;
}

/* outputs = round(silu(gates)) * ups; gates and ups [num_rows, size] lie beside each other */
void gate(const uint16_t *gates_ups, uint16_t *outputs, int64_t num_rows, int64_t size,
          int32_t num_threads) {
#pragma omp parallel for num_threads(num_threads) if (num_rows >= MIN_PARALLEL_ROWS)
    for (int64_t row = 0; row < num_rows; row++) {
        const uint16_t *gates = gates_ups + row * 2 * size, *ups = gates + size;
        uint16_t *gated = outputs + row * size;
        for (int64_t i = 0; i < size; i++) {
            const float x = read_value(gates + i), e = exp_of_negative(-fabsf(x));
            const uint16_t opened = round_value(x * (x < 0.0f ? e : 1.0f) / (1.0f + e));
            gated[i] = round_value(read_value(&opened) * read_value(ups + i));
        }
    }
}

/* slots[places[row]] = rows[row], of so many bytes each; no place comes twice */
void store(const char *rows, const int64_t *places, char *slots, int64_t num_rows,
           int64_t row_stride, int64_t num_bytes, int32_t num_threads) {
#pragma omp parallel for num_threads(num_threads) if (num_rows >= MIN_PARALLEL_ROWS)
    for (int64_t row = 0; row < num_rows; row++)
        memcpy(slots + places[row] * num_bytes, rows + row * row_stride, num_bytes);
}
