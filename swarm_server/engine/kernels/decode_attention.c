/* Attention of single new tokens over keys and values in pages, on the CPU.
 *
 * One query row per sequence; its keys and values are read where they lie, each once. Scores and
 * sums are float32 whatever the pages hold. Built by build.py, called by decode_attention.py;
 * nothing here is known to Python but `struct attention_batch` and the two functions at the end.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

struct attention_batch {
    int64_t num_rows;
    int64_t num_heads;
    int64_t num_kv_heads;
    int64_t head_dim;
    int64_t page_size;
    int64_t table_width;       /* page ids per row of `tables` */
    int64_t query_stride;      /* values between the queries of two rows */
    int64_t scores_stride;     /* floats of scratch per row: num_heads * (longest row) */
    const int32_t *tables;     /* [num_rows, table_width]: the page of each page_size positions */
    const int32_t *first_keys; /* [num_rows]: the first position that the row may look at */
    const int32_t *lengths;    /* [num_rows]: positions up to and with the row's own */
    const float *biases;       /* ALiBi, [num_heads, biases_stride], by key position; or NULL */
    int64_t biases_stride;
    float *scores;             /* scratch, [num_rows, scores_stride] */
    float scale;
    int32_t num_threads;
};

static inline float from_float32(const float *value) { return *value; }

static inline float from_bfloat16(const uint16_t *value) {
    uint32_t bits = (uint32_t)*value << 16;
    float exact;
    memcpy(&exact, &bits, sizeof exact);
    return exact;
}

static inline float to_float32(float value) { return value; }

static inline uint16_t to_bfloat16(float value) { /* to nearest, ties to even, as torch rounds */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* e^x for x <= 0, to about 2 units in the last place; vectorises, which expf does not. */
static inline float exp_of_negative(float x) {
    float scaled = x * 1.44269504088896341f;
    scaled = scaled < -126.0f ? -126.0f : scaled; /* not-a-number stays what it is */
    float whole = floorf(scaled);
    float f = (scaled - whole) * 0.693147180559945309f;
    float power = 1.0f + f * (1.0f + f * (0.5f + f * (1.6666667e-1f + f * (4.1666667e-2f
        + f * (8.3333333e-3f + f * (1.3888889e-3f + f * 1.984127e-4f))))));
    uint32_t bits = (uint32_t)((int32_t)whole + 127) << 23;
    float factor;
    memcpy(&factor, &bits, sizeof factor);
    return power * factor;
}

/* The scores of one head become weights that sum to one. */
static inline void softmax(float *scores, int64_t num_keys) {
    float highest = -INFINITY, total = 0.0f;
    for (int64_t t = 0; t < num_keys; t++) highest = scores[t] > highest ? scores[t] : highest;
    for (int64_t t = 0; t < num_keys; t++) {
        scores[t] = exp_of_negative(scores[t] - highest);
        total += scores[t];
    }
    float inverse = 1.0f / total;
    for (int64_t t = 0; t < num_keys; t++) scores[t] *= inverse;
}

/* A slot is about as large as a page of memory, behind whose end no processor reads ahead: so the
 * next ones are asked for here, into the second cache, which waits for more at once than the first
 * does. It takes a third off where pages are not in a cache. */
#define AHEAD 4
#define SLOT(at) (pages + (table[(at) / page_size] * page_size + (at) % page_size) * slot_size)

static inline void prefetch(const void *from, int64_t num_bytes) {
    for (int64_t i = 0; i < num_bytes; i += 64) __builtin_prefetch((const char *)from + i, 0, 2);
}

/* The same code for both dtypes; `head_dim` is a constant wherever this is inlined. */
#define DEFINE_ATTENTION(NAME, TYPE, READ, WRITE)                                                  \
    static inline __attribute__((always_inline)) void NAME##_row(                                  \
        const struct attention_batch *batch, const TYPE *pages, const TYPE *query, TYPE *output,   \
        int64_t row, int64_t head_dim) {                                                           \
        const int64_t num_heads = batch->num_heads, num_kv_heads = batch->num_kv_heads;            \
        const int64_t group = num_heads / num_kv_heads, page_size = batch->page_size;              \
        const int64_t slot_size = 2 * num_kv_heads * head_dim;                                     \
        const int64_t half_bytes = slot_size / 2 * (int64_t)sizeof(TYPE);                          \
        const int64_t first = batch->first_keys[row], end = batch->lengths[row];                   \
        const int64_t num_keys = end - first;                                                      \
        const int32_t *table = batch->tables + row * batch->table_width;                           \
        float *scores = batch->scores + row * batch->scores_stride;                                \
        float exact_query[num_heads * head_dim], sums[num_heads * head_dim];                       \
        for (int64_t i = 0; i < num_heads * head_dim; i++) {                                       \
            exact_query[i] = READ(query + i) * batch->scale;                                       \
            sums[i] = 0.0f;                                                                        \
        }                                                                                          \
        for (int64_t at = first; at < end; at++) {                                                 \
            const TYPE *slot = SLOT(at);                                                           \
            if (at + AHEAD < end) prefetch(SLOT(at + AHEAD), half_bytes);                          \
            for (int64_t kv = 0; kv < num_kv_heads; kv++) {                                        \
                float key[head_dim];                                                               \
                for (int64_t i = 0; i < head_dim; i++) key[i] = READ(slot + kv * head_dim + i);    \
                for (int64_t h = kv * group; h < (kv + 1) * group; h++) {                          \
                    float score = 0.0f;                                                            \
                    for (int64_t i = 0; i < head_dim; i++)                                         \
                        score += exact_query[h * head_dim + i] * key[i];                           \
                    if (batch->biases) score += batch->biases[h * batch->biases_stride + at];      \
                    scores[h * num_keys + at - first] = score;                                     \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        for (int64_t h = 0; h < num_heads; h++) softmax(scores + h * num_keys, num_keys);          \
        for (int64_t at = first; at < end; at++) {                                                 \
            const TYPE *slot = SLOT(at);                                                           \
            if (at + AHEAD < end) prefetch(SLOT(at + AHEAD) + slot_size / 2, half_bytes);          \
            for (int64_t kv = 0; kv < num_kv_heads; kv++) {                                        \
                float value[head_dim];                                                             \
                for (int64_t i = 0; i < head_dim; i++)                                             \
                    value[i] = READ(slot + (num_kv_heads + kv) * head_dim + i);                    \
                for (int64_t h = kv * group; h < (kv + 1) * group; h++) {                          \
                    const float weight = scores[h * num_keys + at - first];                        \
                    for (int64_t i = 0; i < head_dim; i++)                                         \
                        sums[h * head_dim + i] += weight * value[i];                               \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        for (int64_t i = 0; i < num_heads * head_dim; i++) output[i] = WRITE(sums[i]);             \
    }                                                                                              \
                                                                                                   \
    void NAME(const struct attention_batch *batch, const TYPE *pages, const TYPE *queries,         \
              TYPE *outputs) {                                                                     \
        const int64_t width = batch->num_heads * batch->head_dim;                                  \
        _Pragma("omp parallel for schedule(dynamic) num_threads(batch->num_threads)")              \
        for (int64_t row = 0; row < batch->num_rows; row++) {                                      \
            const TYPE *query = queries + row * batch->query_stride;                               \
            TYPE *output = outputs + row * width;                                                  \
            switch (batch->head_dim) {                                                             \
            case 64: NAME##_row(batch, pages, query, output, row, 64); break;                      \
            case 128: NAME##_row(batch, pages, query, output, row, 128); break;                    \
            default: NAME##_row(batch, pages, query, output, row, batch->head_dim);                \
            }                                                                                      \
        }                                                                                          \
    }

DEFINE_ATTENTION(attend_float32, float, from_float32, to_float32)
DEFINE_ATTENTION(attend_bfloat16, uint16_t, from_bfloat16, to_bfloat16)
