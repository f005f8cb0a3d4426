/* Keys lie in rows, and a score for each lane wants them in columns: four words of LANES keys. */
#ifndef SWARMGATE_COLUMNS_H
#define SWARMGATE_COLUMNS_H

#include "vectors.h"

/* One vector of each of LANES keys. They are copied before they are turned: slots often lie a page
 * of memory apart, and then all are in one set of the first cache, which holds fewer. */
struct deck {
    words rows[LANES];
};

/* Four words of keys i, i + 4, ..: 128 bits of each. */
ALWAYS_INLINE words gather_quarters(const char *from) {
    const int64_t step = 4 * sizeof(words);
#if LANES == 16
    __m512i all = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)from));
    all = _mm512_inserti32x4(all, _mm_loadu_si128((const __m128i *)(from + step)), 1);
    all = _mm512_inserti32x4(all, _mm_loadu_si128((const __m128i *)(from + 2 * step)), 2);
    return (words)_mm512_inserti32x4(all, _mm_loadu_si128((const __m128i *)(from + 3 * step)), 3);
#elif LANES == 8
    const __m256i all = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)from));
    return (words)_mm256_insertf128_si256(all, _mm_loadu_si128((const __m128i *)(from + step)), 1);
#else
    words all;
    memcpy(&all, from, sizeof all);
    (void)step;
    return all;
#endif
}

/* columns[j]: word 4 * quarter + j of all keys of a deck. */
ALWAYS_INLINE void take_columns(const struct deck *deck, int quarter, words columns[4]) {
    words q[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) q[i] = gather_quarters((const char *)&deck->rows[i] + 16 * quarter);
    const longs a = (longs)LOWER_4(q[0], q[1]), b = (longs)UPPER_4(q[0], q[1]);
    const longs c = (longs)LOWER_4(q[2], q[3]), d = (longs)UPPER_4(q[2], q[3]);
    columns[0] = (words)LOWER_2(a, c);
    columns[1] = (words)UPPER_2(a, c);
    columns[2] = (words)LOWER_2(b, d);
    columns[3] = (words)UPPER_2(b, d);
}

#endif
