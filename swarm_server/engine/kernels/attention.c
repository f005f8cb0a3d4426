/* Attention over keys and values in pages, on the CPU: of lone new tokens and of whole chunks.
 *
 * Neighbouring tokens of a sequence go over its keys together. A block of keys and values becomes
 * float32 once for all of them, keys with their inputs in rows, so that scores and outputs are both
 * products of small matrices:
 *
 *     scores  [rows, BLOCK]    = queries [rows, head_dim] x keys   [head_dim, BLOCK]
 *     outputs [rows, head_dim] = weights [rows, BLOCK]    x values [BLOCK, head_dim]
 *
 * and the softmax is taken along the way, block by block (Milakov and Gimelshein, 2018; Dao et al.,
 * 2022). Blocks begin at multiples of BLOCK positions. Each score is one sum in the order of
 * head_dim, each output one in the order of keys: a token's outputs are the same bits whatever goes
 * through beside it, alone or in a chunk, for any number of threads. For that it is built without
 * reordered sums. Built by build.py, called by attention.py; nothing here is known to Python
 * but `struct attention_batch` and `attend`.
 */
#include <float.h>
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

#define BLOCK 64      /* keys; a multiple of FEW_VECTORS vectors */
#define TILE_ROWS 64  /* queries of one head that share a block of keys, about */
#define VECTORS 2     /* that many rows go through together, */
#define FEW_VECTORS 4 /* and that one or two do: a lone sum waits for its own last addition */

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef float loose_floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef uint16_t loose_halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

struct attention_batch {
    int64_t num_segments; /* of tokens of one sequence, one after the other */
    int64_t num_heads;
    int64_t num_kv_heads;
    int64_t head_dim;
    int64_t page_size;
    int64_t table_width;      /* page ids per segment */
    int64_t query_stride;     /* values between the queries of two tokens */
    int64_t window;           /* positions that a token looks at, up to and with its own */
    const int32_t *tables;    /* [num_segments, table_width]: the page of each page_size positions */
    const int32_t *starts;    /* [num_segments + 1]: segment i has tokens [starts[i], starts[i + 1]) */
    const int32_t *positions; /* [num_segments]: of the first token */
    const float *biases;      /* ALiBi, [num_heads, biases_stride], by key position; or NULL */
    int64_t biases_stride;
    float scale;
    int32_t num_threads;
    int32_t is_wide; /* queries, pages and outputs are float32, else bfloat16 */
};

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static inline int64_t round_up(int64_t count, int64_t unit) {
    return (count + unit - 1) / unit * unit;
}

static inline floats load(const float *from) { floats v; memcpy(&v,from,sizeof v); return v; }

static inline void store(float *to, floats values) { memcpy(to,&values,sizeof values); }

static inline float widen(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float exact;
    memcpy(&exact, &bits, sizeof exact);
    return exact;
}

/* Values of a head as float32, times a factor. */
static inline void widen_values(const char *from, int is_wide, float factor, int64_t count,
                                float *to) {
    int64_t i = 0;
    if (is_wide) {
        for (; i <= count - LANES; i += LANES) store(to + i, load((const float *)from + i) * factor);
        for (; i < count; i++) to[i] = ((const float *)from)[i] * factor;
    } else {
        for (; i <= count - LANES; i += LANES) {
            const halves values = *(const loose_halves *)((const uint16_t *)from + i);
            store(to + i, (floats)(__builtin_convertvector(values, words) << 16) * factor);
        }
        for (; i < count; i++) to[i] = widen(((const uint16_t *)from)[i]) * factor;
    }
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

/* LANES keys as float32 into columns of `to`, [head_dim (made even), BLOCK]. */
static void gather_keys(const char *const *slots, int64_t offset, int64_t head_dim, int is_wide,
                        float *to) {
    const int64_t num_bytes = head_dim * (is_wide ? 4 : 2), step = sizeof(words);
    for (int64_t at = 0; at < num_bytes; at += step) {
        words deck[LANES];
        if (num_bytes - at >= step) {
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) memcpy(&deck[i], slots[i] + offset + at, sizeof deck[i]);
        } else {
            for (int i = 0; i < LANES; i++) {
                deck[i] = (words){0};
                memcpy(&deck[i], slots[i] + offset + at, (size_t)(num_bytes - at));
            }
        }
        transpose(deck);
        const int64_t left = (num_bytes - at + 3) / 4, count = least(left, LANES);
        if (is_wide) {
            for (int64_t i = 0; i < count; i++) store(to + (at / 4 + i) * BLOCK, (floats)deck[i]);
        } else {
            for (int64_t i = 0; i < count; i++) { /* a word is a pair of inputs */
                float *rows = to + (at / 2 + 2 * i) * BLOCK;
                store(rows, (floats)(deck[i] << 16));
                store(rows + BLOCK, (floats)(deck[i] & 0xffff0000u));
            }
        }
    }
}

struct product {
    const float *left; /* [num_rows, count] */
    int64_t left_stride;
    const float *right; /* [count, width] */
    int64_t right_stride;
    int64_t count;
    float *sums; /* [num_rows, width], to which the products are added, in order */
    int64_t sums_stride;
};

/* The last two are constants wherever this is inlined. */
static inline __attribute__((always_inline)) void add_vectors(const struct product *product,
                                                              int64_t at, const int num_rows,
                                                              const int num_vectors) {
    const int64_t left_stride = product->left_stride, right_stride = product->right_stride;
    const int64_t count = product->count;
    const float *left = product->left, *right = product->right + at;
    floats sums[MAX_ROWS][FEW_VECTORS];
    for (int r = 0; r < num_rows; r++)
        for (int v = 0; v < num_vectors; v++)
            sums[r][v] = load(product->sums + r * product->sums_stride + at + v * LANES);
    for (int64_t i = 0; i < count; i++, right += right_stride) {
        floats values[FEW_VECTORS];
        for (int v = 0; v < num_vectors; v++) values[v] = load(right + v * LANES);
        for (int r = 0; r < num_rows; r++)
            for (int v = 0; v < num_vectors; v++)
                sums[r][v] += values[v] * left[r * left_stride + i];
    }
    for (int r = 0; r < num_rows; r++)
        for (int v = 0; v < num_vectors; v++)
            store(product->sums + r * product->sums_stride + at + v * LANES, sums[r][v]);
}

/* `width` is a multiple of LANES. */
static void add_product(const struct product *product, int64_t num_rows, int64_t width) {
#define ROWS(NUM_ROWS)                                                                             \
    case NUM_ROWS:                                                                                 \
        for (int64_t at = 0; at < width;) {                                                        \
            if (NUM_ROWS <= 2 && width - at >= FEW_VECTORS * LANES) {                              \
                add_vectors(product, at, NUM_ROWS, FEW_VECTORS);                                   \
                at += FEW_VECTORS * LANES;                                                         \
            } else if (width - at >= VECTORS * LANES) {                                            \
                add_vectors(product, at, NUM_ROWS, VECTORS);                                       \
                at += VECTORS * LANES;                                                             \
            } else {                                                                               \
                add_vectors(product, at, NUM_ROWS, 1);                                             \
                at += LANES;                                                                       \
            }                                                                                      \
        }                                                                                          \
        break;
    switch (num_rows) {
        ROWS(1) ROWS(2) ROWS(3) ROWS(4)
#if MAX_ROWS > 4
        ROWS(5) ROWS(6) ROWS(7) ROWS(8)
#endif
    }
}

/* The rows of a tile that belong to one key head: `group` of them for each token. */
struct head {
    int64_t first_head; /* that looks at these keys */
    float *queries;     /* [num_rows, width], scaled */
    float *sums;        /* [num_rows, width] */
    floats *totals;     /* [num_rows] of weights so far, a part in each lane */
    float *highest;     /* [num_rows] of scores so far */
};

/* A few tokens of a segment, which go over its keys together. */
struct tile {
    const int32_t *table;
    int64_t token; /* of the batch, the first of the tile */
    int64_t num_tokens;
    int64_t position;
};

/* Which keys of a block a row sees: [low, high). */
struct sight {
    int64_t low, high;
};

static inline struct sight sight_of(const struct attention_batch *batch, const struct tile *tile,
                                    int64_t token, int64_t start) {
    const int64_t end = tile->position + token + 1;
    return (struct sight){most(end - batch->window - start, 0), least(end - start, BLOCK)};
}

static inline float highest_of(floats values) {
    for (int i = 1; i < LANES; i *= 2)
        values = higher((floats)LOWER((words)values, (words)values),
                        (floats)UPPER((words)values, (words)values));
    return values[0];
}

/* The scores of one row become weights; what it has summed up so far shrinks by as much. */
static inline void soften(const struct head *head, int64_t row, struct sight sight, int64_t width,
                          int64_t head_width, float *scores) {
    floats lanes, highest = (floats){0} + head->highest[row];
    for (int i = 0; i < LANES; i++) lanes[i] = (float)i;
    for (int64_t at = 0; at < width; at += LANES) {
        floats values = load(scores + at);
        if (sight.low > at || sight.high < at + LANES) {
            const ints seen = (lanes >= (float)(sight.low - at)) & (lanes < (float)(sight.high - at));
            values = choose(seen, values, (floats){0} - FLT_MAX);
            store(scores + at, values);
        }
        highest = higher(values, highest);
    }
    const float now = highest_of(highest);
    if (now > head->highest[row]) {
        const floats factor = exp_of_negative((floats){0} + (head->highest[row] - now));
        head->totals[row] *= factor;
        for (int64_t at = 0; at < head_width; at += LANES) {
            float *sums = head->sums + row * head_width + at;
            store(sums, load(sums) * factor);
        }
        head->highest[row] = now;
    }
    for (int64_t at = 0; at < width; at += LANES) {
        floats weights = exp_of_negative(load(scores + at) - now);
        if (sight.low > at || sight.high < at + LANES) {
            const ints seen = (lanes >= (float)(sight.low - at)) & (lanes < (float)(sight.high - at));
            weights = choose(seen, weights, (floats){0});
        }
        head->totals[row] += weights;
        store(scores + at, weights);
    }
}

/* Rows [first, first + num_rows) of a head look at a block that begins at position `start`. */
static void look(const struct attention_batch *batch, const struct tile *tile,
                 const struct head *head, int64_t first, int64_t num_rows, int64_t start,
                 const float *keys, const float *values, int64_t head_width) {
    const int64_t group = batch->num_heads / batch->num_kv_heads, last = first + num_rows - 1;
    const struct sight before = sight_of(batch, tile, first / group, start);
    const struct sight after = sight_of(batch, tile, last / group, start);
    if (after.high <= 0 || before.low >= BLOCK) return;
    const int64_t width = round_up(after.high, LANES);
    float scores[MAX_ROWS * BLOCK] __attribute__((aligned(64)));
    memset(scores, 0, sizeof *scores * (size_t)(num_rows * BLOCK));
    const struct product product = {
        head->queries + first * head_width, head_width, keys, BLOCK, batch->head_dim, scores, BLOCK,
    };
    add_product(&product, num_rows, width);
    /* All of these rows see [low, high); some see keys before or after, and look alone there. */
    const int64_t low = after.low, high = before.high;
    for (int64_t r = 0; r < num_rows; r++) {
        const int64_t row = first + r;
        const struct sight sight = sight_of(batch, tile, row / group, start);
        if (sight.low >= sight.high) continue;
        if (batch->biases) {
            const int64_t query_head = head->first_head + row % group;
            const float *biases = batch->biases + query_head * batch->biases_stride + start;
            for (int64_t i = sight.low; i < sight.high; i++) scores[r * BLOCK + i] += biases[i];
        }
        soften(head, row, sight, width, head_width, scores + r * BLOCK);
        const int64_t end = low < high ? least(low, sight.high) : sight.high;
        if (sight.low < end) {
            const struct product early = {
                scores + r * BLOCK + sight.low, BLOCK, values + sight.low * head_width, head_width,
                end - sight.low, head->sums + row * head_width, head_width,
            };
            add_product(&early, 1, head_width);
        }
    }
    if (low >= high) return;
    const struct product common = {
        scores + low, BLOCK, values + low * head_width, head_width, high - low,
        head->sums + first * head_width, head_width,
    };
    add_product(&common, num_rows, head_width);
    for (int64_t r = 0; r < num_rows; r++) {
        const struct sight sight = sight_of(batch, tile, (first + r) / group, start);
        if (sight.high <= high) continue;
        const struct product late = {
            scores + r * BLOCK + high, BLOCK, values + high * head_width, head_width,
            sight.high - high, head->sums + (first + r) * head_width, head_width,
        };
        add_product(&late, 1, head_width);
    }
}

/* Where the keys of a block lie. What is not in [low, high) is not looked at, but read: so it is
 * one of the others. */
static void find_slots(const struct attention_batch *batch, const struct tile *tile,
                       const char *pages, int64_t start, struct sight sight, const char **slots) {
    const int64_t slot_bytes =
        2 * batch->num_kv_heads * batch->head_dim * (batch->is_wide ? 4 : 2);
    if (sight.low >= sight.high) return;
    int64_t page = (start + sight.low) / batch->page_size;
    int64_t offset = (start + sight.low) % batch->page_size;
    for (int64_t i = sight.low; i < sight.high; i++, offset++) {
        if (offset == batch->page_size) page++, offset = 0;
        slots[i] = pages + (tile->table[page] * batch->page_size + offset) * slot_bytes;
    }
    for (int64_t i = 0; i < sight.low; i++) slots[i] = slots[sight.low];
    for (int64_t i = sight.high; i < BLOCK; i++) slots[i] = slots[sight.low];
}

/* Slots lie further apart than a processor reads ahead by itself: so what comes next is asked for,
 * into the second cache, which waits for more at once than the first. */
static inline void prefetch(const char *const *slots, struct sight sight, int64_t offset,
                            int64_t num_bytes) {
    for (int64_t i = sight.low; i < sight.high; i++)
        for (int64_t at = 0; at < num_bytes; at += 64)
            __builtin_prefetch(slots[i] + offset + at, 0, 2);
}

/* The tokens of a tile, in key heads [first_kv, first_kv + num_kv). */
static void attend_tile(const struct attention_batch *batch, const struct tile *tile,
                        const char *pages, const char *queries, char *outputs, int64_t first_kv,
                        int64_t num_kv) {
    const int64_t group = batch->num_heads / batch->num_kv_heads, head_dim = batch->head_dim;
    const int64_t num_rows = tile->num_tokens * group, is_wide = batch->is_wide;
    const int64_t width = round_up(head_dim, LANES);
    const int64_t head_bytes = head_dim * (is_wide ? 4 : 2);
    float all_queries[num_kv * num_rows * width] __attribute__((aligned(64)));
    float all_sums[num_kv * num_rows * width] __attribute__((aligned(64)));
    floats totals[num_kv * num_rows];
    float highest[num_kv * num_rows];
    float keys[(head_dim + 1) * BLOCK] __attribute__((aligned(64)));
    float values[BLOCK * width] __attribute__((aligned(64)));
    struct head heads[num_kv];
    memset(all_sums, 0, sizeof all_sums);
    if (head_dim < width) memset(values, 0, sizeof values);
    for (int64_t kv = 0; kv < num_kv; kv++) {
        const int64_t at = kv * num_rows;
        heads[kv] = (struct head){(first_kv + kv) * group, all_queries + at * width,
                                  all_sums + at * width, totals + at, highest + at};
        for (int64_t row = 0; row < num_rows; row++) {
            const int64_t token = tile->token + row / group;
            const int64_t head = heads[kv].first_head + row % group;
            const char *query =
                queries + token * batch->query_stride * (is_wide ? 4 : 2) + head * head_bytes;
            widen_values(query, (int)is_wide, batch->scale, head_dim, heads[kv].queries + row * width);
            heads[kv].totals[row] = (floats){0};
            heads[kv].highest[row] = -FLT_MAX;
        }
    }
    const int64_t end = tile->position + tile->num_tokens;
    const int64_t first_key = most(tile->position + 1 - batch->window, 0);
    const char *slots[BLOCK], *next_slots[BLOCK];
    int64_t start = first_key / BLOCK * BLOCK;
    struct sight sight = {first_key - start, least(end - start, BLOCK)}, next = {0, 0};
    find_slots(batch, tile, pages, start, sight, slots);
    for (; start < end; start += BLOCK) {
        next.high = most(least(end - start - BLOCK, BLOCK), 0);
        find_slots(batch, tile, pages, start + BLOCK, next, next_slots);
        for (int64_t kv = 0; kv < num_kv; kv++) {
            const int64_t key_offset = (first_kv + kv) * head_bytes;
            const int64_t value_offset = key_offset + batch->num_kv_heads * head_bytes;
            const int is_last = kv + 1 == num_kv;
            const int64_t offset = is_last ? first_kv * head_bytes : key_offset + head_bytes;
            prefetch(is_last ? next_slots : slots, is_last ? next : sight, offset, head_bytes);
            prefetch(is_last ? next_slots : slots, is_last ? next : sight,
                     offset + batch->num_kv_heads * head_bytes, head_bytes);
            for (int64_t i = 0; i < round_up(sight.high, LANES); i += LANES)
                gather_keys(slots + i, key_offset, head_dim, (int)is_wide, keys + i);
            for (int64_t i = sight.low; i < sight.high; i++)
                widen_values(slots[i] + value_offset, (int)is_wide, 1.0f, head_dim,
                             values + i * width);
            for (int64_t row = 0; row < num_rows; row += MAX_ROWS)
                look(batch, tile, &heads[kv], row, least(num_rows - row, MAX_ROWS), start, keys,
                     values, width);
        }
        memcpy(slots, next_slots, sizeof slots);
        sight = next;
    }
    for (int64_t kv = 0; kv < num_kv; kv++)
        for (int64_t row = 0; row < num_rows; row++) {
            const int64_t token = tile->token + row / group;
            const int64_t head = heads[kv].first_head + row % group;
            const float *sums = heads[kv].sums + row * width;
            char *output = outputs + (token * batch->num_heads + head) * head_bytes;
            float total = 0.0f;
            for (int i = 0; i < LANES; i++) total += heads[kv].totals[row][i];
            narrow_values(sums, (int)is_wide, 1.0f / total, head_dim, output);
        }
}

void attend(const struct attention_batch *batch, const void *pages, const void *queries,
            void *outputs) {
    const int64_t group = batch->num_heads / batch->num_kv_heads;
    const int64_t most_tokens = most(TILE_ROWS / group, 1);
    const int64_t num_tokens = batch->starts[batch->num_segments];
    struct tile tiles[num_tokens];
    int64_t num_tiles = 0;
    for (int64_t segment = 0; segment < batch->num_segments; segment++)
        for (int64_t token = batch->starts[segment]; token < batch->starts[segment + 1];
             token += most_tokens)
            tiles[num_tiles++] = (struct tile){
                .table = batch->tables + segment * batch->table_width,
                .token = token,
                .num_tokens = least(batch->starts[segment + 1] - token, most_tokens),
                .position = batch->positions[segment] + token - batch->starts[segment],
            };
    const int64_t tile_rows = most(num_tokens / most(num_tiles, 1), 1) * group;
    const int64_t num_kv = most(least(TILE_ROWS / tile_rows, batch->num_kv_heads), 1);
    const int64_t num_parts = (batch->num_kv_heads + num_kv - 1) / num_kv;
#pragma omp parallel for schedule(dynamic) collapse(2) num_threads(batch->num_threads)
    for (int64_t t = 0; t < num_tiles; t++)
        for (int64_t part = 0; part < num_parts; part++)
            attend_tile(batch, &tiles[t], pages, queries, outputs, part * num_kv,
                        least(batch->num_kv_heads - part * num_kv, num_kv));
}
