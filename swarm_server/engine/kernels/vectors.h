/* Vectors of float32 as long as the processor has them, and what attention.c does with one or two.
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
#define MAX_ROWS 8 /* sums of so many rows, two vectors each, fit the registers */
#elif defined(__AVX__)
#define LANES 8
#define MAX_ROWS 4
#elif defined(__aarch64__)
#define LANES 4
#define MAX_ROWS 8
#else
#define LANES 4
#define MAX_ROWS 4
#endif

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef uint16_t loose_halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static inline int64_t round_up(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

static inline floats load(const float *from) { floats v; memcpy(&v,from,sizeof v); return v; }

static inline void store(float *to, floats values) { memcpy(to,&values,sizeof values); }

static inline float widen(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float exact;
    memcpy(&exact, &bits, sizeof exact);
    return exact;
}

static inline floats widen_vector(const char *from, int is_wide, int64_t at) {
    if (is_wide) return load((const float *)from + at);
    const halves values = *(const loose_halves *)((const uint16_t *)from + at);
    return (floats)(__builtin_convertvector(values, words) << 16);
}

/* Values of a head as float32, times a factor. */
static inline void widen_values(const char *from, int is_wide, float factor, int64_t count,
                                float *to) {
    int64_t i = 0;
    for (; i <= count - LANES; i += LANES) store(to + i, widen_vector(from, is_wide, i) * factor);
    for (; i < count; i++)
        to[i] = (is_wide ? ((const float *)from)[i] : widen(((const uint16_t *)from)[i])) * factor;
}

/* The other way: to nearest, ties to even, as torch rounds. */
static inline void narrow_values(const float *from, int is_wide, float factor, int64_t count,
                                 char *to) {
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t left = least(count - i, LANES);
        const floats values = load(from + i) * factor;
        const words bits = (words)values;
        const words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        const words is_number = (words)(values == values);
        const halves narrow =
            __builtin_convertvector((rounded & is_number) | (0x7fc0u & ~is_number), halves);
        if (is_wide)
            memcpy(to + i * 4, &values, (size_t)left * 4);
        else if (left == LANES)
            memcpy(to + i * 2, &narrow, sizeof narrow);
        else
            memcpy(to + i * 2, &narrow, (size_t)left * 2);
    }
}

static inline floats choose(ints first, floats a, floats b) { /* a where all bits are set, else b */
    return (floats)((first & (ints)a) | (~first & (ints)b));
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
#define SHUFFLE(A, B, ...) __builtin_shuffle(A, B, (words){__VA_ARGS__})
#endif
#if LANES == 16
#define LOWER(A, B) SHUFFLE(A, B, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define UPPER(A, B) SHUFFLE(A, B, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif LANES == 8
#define LOWER(A, B) SHUFFLE(A, B, 0, 8, 1, 9, 2, 10, 3, 11)
#define UPPER(A, B) SHUFFLE(A, B, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define LOWER(A, B) SHUFFLE(A, B, 0, 4, 1, 5)
#define UPPER(A, B) SHUFFLE(A, B, 2, 6, 3, 7)
#endif

/* LANES vectors change places with their lanes: the deck is cut and riffled until it has. */
static inline __attribute__((always_inline)) void transpose(words *deck) {
#pragma GCC unroll 4
    for (int cut = 1; cut < LANES; cut *= 2) {
        words riffled[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES / 2; i++) {
            riffled[2 * i] = LOWER(deck[i], deck[i + LANES / 2]);
            riffled[2 * i + 1] = UPPER(deck[i], deck[i + LANES / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) deck[i] = riffled[i];
    }
}

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
