/* Vectors of float32, as long as the processor has them, for all kernels.
 *
 * Bfloat16 is the upper half of a float32: widening is a shift, narrowing rounds as torch does.
 * Operations on lanes are in a fixed order, whatever a compiler would prefer.
 */
#ifndef SWARMGATE_VECTORS_H
#define SWARMGATE_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#define NUM_REGISTERS 32
#elif defined(__AVX__)
#define LANES 8
#define NUM_REGISTERS 16
#elif defined(__aarch64__)
#define LANES 4
#define NUM_REGISTERS 32
#else
#define LANES 4
#define NUM_REGISTERS 16
#endif

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint64_t longs __attribute__((vector_size(4 * LANES)));

#define ALWAYS_INLINE static inline __attribute__((always_inline))

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static inline int64_t round_up(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

static inline floats load(const float *from) { floats v; memcpy(&v, from, sizeof v); return v; }

static inline void store(float *to, floats values) { memcpy(to, &values, sizeof values); }

/* Two bfloat16 numbers are a word; these are the first and the second of each. */
static inline floats first_of(words pairs) { return (floats)(pairs << 16); }

static inline floats second_of(words pairs) { return (floats)(pairs & 0xffff0000u); }

static inline float widen(uint16_t value) {
    const uint32_t bits = (uint32_t)value << 16;
    float exact;
    memcpy(&exact, &bits, sizeof exact);
    return exact;
}

/* `count` bfloat16 numbers, then zeros; LANES or more are a vector. */
static inline floats widen_some(const uint16_t *from, int64_t count) {
    halves values = {0};
    if (count >= LANES)
        memcpy(&values, from, sizeof values);
    else
        memcpy(&values, from, (size_t)count * 2);
    return (floats)(__builtin_convertvector(values, words) << 16);
}

/* The same from `at` on, whether they are float32 or bfloat16. */
static inline floats widen_values(const char *from, int is_wide, int64_t at, int64_t count) {
    floats values = {0};
    if (!is_wide) return widen_some((const uint16_t *)from + at, count);
    if (count >= LANES) return load((const float *)from + at);
    memcpy(&values, (const float *)from + at, (size_t)count * 4);
    return values;
}

static inline floats choose(ints first, floats a, floats b) { /* a where all bits are set, else b */
    return (floats)((first & (ints)a) | (~first & (ints)b));
}

/* To the nearest number that a bfloat16 can be, ties to even, as torch rounds. Processors that do it
 * themselves make zero of what is less than the least normal number. */
#if defined(__AVX512BF16__)
static inline halves narrow(floats values) { return (halves)_mm512_cvtneps_pbh((__m512)values); }

static inline words words_of(floats values) { /* rounded, in their lower halves */
    return (words)_mm512_cvtepu16_epi32((__m256i)narrow(values));
}

static inline floats rounded(floats values) { return (floats)(words_of(values) << 16); }

#else
static inline floats rounded(floats values) {
    const words bits = (words)values;
    const words nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
#if defined(__AVX512F__)
    const __mmask16 is_number = _mm512_cmp_ps_mask((__m512)values, (__m512)values, _CMP_ORD_Q);
    return (floats)_mm512_mask_mov_epi32(_mm512_set1_epi32(0x7fc00000), is_number, (__m512i)nearest);
#else
    return choose(values == values, (floats)nearest, (floats)((words){0} + 0x7fc00000u));
#endif
}

static inline words words_of(floats values) { return (words)rounded(values) >> 16; }

static inline halves narrow(floats values) {
    return __builtin_convertvector(words_of(values), halves);
}
#endif

static inline void narrow_some(floats values, int64_t count, uint16_t *to) {
    const halves narrowed = narrow(values);
    if (count >= LANES)
        memcpy(to, &narrowed, sizeof narrowed);
    else
        memcpy(to, &narrowed, (size_t)count * 2);
}

/* 2 * LANES bfloat16 numbers that lie together: of each two the first, and the second. */
struct pairs {
    floats first, second;
};

/* `count` of them, then zeros; 2 * LANES or more are all. */
static inline struct pairs load_pairs(const uint16_t *from, int64_t count) {
    words both = {0};
    if (count >= 2 * LANES)
        memcpy(&both, from, sizeof both);
    else
        memcpy(&both, from, (size_t)count * 2);
    return (struct pairs){first_of(both), second_of(both)};
}

static inline void store_pairs(struct pairs values, int64_t count, uint16_t *to) {
    const words both = words_of(values.first) | (words)rounded(values.second);
    if (count >= 2 * LANES)
        memcpy(to, &both, sizeof both);
    else
        memcpy(to, &both, (size_t)count * 2);
}

static inline floats higher(floats a, floats b) { /* b where one of them is not a number */
#if defined(__AVX512F__)
    return (floats)_mm512_max_ps((__m512)a, (__m512)b); /* compilers do not find it themselves */
#elif defined(__AVX__)
    return (floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return choose(a > b, a, b);
#endif
}

/* e^x for x <= 0, to about 2 units in the last place; not-a-number stays what it is, and what would
 * be less than the least normal number is zero. */
static inline floats exp_of_negative(floats x) {
    const floats magic = (floats){0} + 12582912.0f;
    const floats shifted = x * 1.44269504088896341f + magic; /* its lowest bits: the whole part */
    const floats whole = shifted - magic;
    const floats f = (x - whole * 0.693359375f) + whole * 2.12194440e-4f; /* ln 2, in two parts */
    const floats power = 1.0f + f * (1.0f + f * (0.5f + f * (1.6666667e-1f + f * (4.1666667e-2f
        + f * (8.3333333e-3f + f * 1.3888889e-3f)))));
    const floats result = power * (floats)(((words)shifted << 23) + 0x3f800000u);
    return (floats)((ints)result & ~(x < -87.33654f));
}

#if defined(__clang__)
#define SHUFFLE(A, B, ...) __builtin_shufflevector(A, B, __VA_ARGS__)
#else
#define SHUFFLE(A, B, ...) __builtin_shuffle(A, B, (__typeof__(A)){__VA_ARGS__})
#endif

/* The lower halves of two vectors riffled together, and the upper ones; so for each 128 bits of
 * them, by words and by pairs of words, which costs less. */
#if LANES == 16
#define LOWER(A, B) SHUFFLE(A, B, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define UPPER(A, B) SHUFFLE(A, B, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define LOWER_4(A, B) SHUFFLE(A, B, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define UPPER_4(A, B) SHUFFLE(A, B, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define LOWER_2(A, B) SHUFFLE(A, B, 0, 8, 2, 10, 4, 12, 6, 14)
#define UPPER_2(A, B) SHUFFLE(A, B, 1, 9, 3, 11, 5, 13, 7, 15)
#elif LANES == 8
#define LOWER(A, B) SHUFFLE(A, B, 0, 8, 1, 9, 2, 10, 3, 11)
#define UPPER(A, B) SHUFFLE(A, B, 4, 12, 5, 13, 6, 14, 7, 15)
#define LOWER_4(A, B) SHUFFLE(A, B, 0, 8, 1, 9, 4, 12, 5, 13)
#define UPPER_4(A, B) SHUFFLE(A, B, 2, 10, 3, 11, 6, 14, 7, 15)
#define LOWER_2(A, B) SHUFFLE(A, B, 0, 4, 2, 6)
#define UPPER_2(A, B) SHUFFLE(A, B, 1, 5, 3, 7)
#else
#define LOWER(A, B) SHUFFLE(A, B, 0, 4, 1, 5)
#define UPPER(A, B) SHUFFLE(A, B, 2, 6, 3, 7)
#define LOWER_4 LOWER
#define UPPER_4 UPPER
#define LOWER_2(A, B) SHUFFLE(A, B, 0, 2)
#define UPPER_2(A, B) SHUFFLE(A, B, 1, 3)
#endif

static inline float highest_of(floats values) {
    for (int i = 1; i < LANES; i *= 2)
        values = higher((floats)LOWER((words)values, (words)values),
                        (floats)UPPER((words)values, (words)values));
    return values[0];
}

static inline float sum_of(floats values) {
    for (int i = 1; i < LANES; i *= 2)
        values = (floats)LOWER((words)values, (words)values)
                 + (floats)UPPER((words)values, (words)values);
    return values[0];
}

#endif
