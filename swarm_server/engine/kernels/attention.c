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
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "vectors.h"

#define BLOCK 64 /* keys; with their values they fit a first cache */
#define TILE_ROWS 128 /* queries that share a block, about; with their outputs in a second cache */
#define VECTORS 2 /* that many rows go through together, */
#define FEW_VECTORS 4 /* and that one or two do: a lone sum waits for its own last addition */
#define SHARES 4 /* pieces of work for each thread, at least, where there are as many */

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

/* sums [num_rows, width] += left [num_rows, count] x right [count, width], in order of count. */
struct product {
    const float *left, *right;
    int64_t left_stride, right_stride, count;
    float *sums;
    int64_t sums_stride;
    int are_sums_new; /* they begin with zero, whatever is there */
};

/* The last two are constants wherever this is inlined. */
static inline __attribute__((always_inline)) void add_vectors(const struct product *product,
                                                              int64_t at, const int num_rows,
                                                              const int num_vectors) {
    const int64_t left_stride = product->left_stride, right_stride = product->right_stride;
    const int64_t count = product->count, sums_stride = product->sums_stride;
    const float *left = product->left, *right = product->right + at;
    float *to = product->sums + at;
    floats sums[MAX_ROWS][FEW_VECTORS];
    for (int r = 0; r < num_rows; r++)
        for (int v = 0; v < num_vectors; v++)
            sums[r][v] = product->are_sums_new ? (floats){0} : load(to + r * sums_stride + v * LANES);
    for (int64_t i = 0; i < count; i++, right += right_stride) {
        floats values[FEW_VECTORS];
        for (int v = 0; v < num_vectors; v++) values[v] = load(right + v * LANES);
        for (int r = 0; r < num_rows; r++)
            for (int v = 0; v < num_vectors; v++) sums[r][v] += values[v] * left[r * left_stride + i];
    }
    for (int r = 0; r < num_rows; r++)
        for (int v = 0; v < num_vectors; v++) store(to + r * sums_stride + v * LANES, sums[r][v]);
}

/* `width` is a multiple of LANES. */
static void add_product(const struct product *product, int64_t num_rows, int64_t width) {
#define ROWS(NUM_ROWS)                                                                             \
    case NUM_ROWS:                                                                                 \
        if (NUM_ROWS <= 2)                                                                         \
            for (; width - at >= FEW_VECTORS * LANES; at += FEW_VECTORS * LANES)                   \
                add_vectors(product, at, NUM_ROWS, FEW_VECTORS);                                   \
        for (; width - at >= VECTORS * LANES; at += VECTORS * LANES)                               \
            add_vectors(product, at, NUM_ROWS, VECTORS);                                           \
        if (at < width) add_vectors(product, at, NUM_ROWS, 1);                                     \
        break;
    int64_t at = 0;
    switch (num_rows) {
        ROWS(1) ROWS(2) ROWS(3) ROWS(4)
#if MAX_ROWS > 4
        ROWS(5) ROWS(6) ROWS(7) ROWS(8)
#endif
    }
}

/* A few tokens of a segment, which go over its keys together. */
struct tile {
    const int32_t *table;
    int64_t token, num_tokens; /* of the batch */
    int64_t position;          /* of the first */
};

/* The rows of a tile that belong to one key head: as many for each token as heads look at it. */
struct head {
    int64_t first_head; /* of those */
    int64_t group;      /* how many they are */
    int64_t width;      /* head_dim in whole vectors */
    float *queries;     /* [num_rows, width], scaled */
    float *sums;        /* [num_rows, width] */
    floats *totals;     /* [num_rows] of weights so far, a part in each lane */
    float *highest;     /* [num_rows] of scores so far */
};

/* Keys and values of one key head, at positions [start, start + BLOCK). */
struct block {
    int64_t start;
    const float *keys;   /* [head_dim, BLOCK] */
    const float *values; /* [BLOCK, width]; NULL where a lone row takes them from the slots */
    const char *const *slots;
    int64_t values_offset; /* in a slot, in bytes */
};

/* Which keys of a block a row sees: [low, high). */
struct sight {
    int64_t low, high;
};

static inline struct sight sight_of(const struct attention_batch *batch, int64_t position,
                                    int64_t start) {
    const int64_t end = position + 1 - start;
    return (struct sight){most(end - batch->window, 0), least(end, BLOCK)};
}

/* The scores of one row become weights; what it has summed up so far shrinks by as much. */
static inline void soften(const struct head *head, int64_t row, struct sight sight,
                          float *scores) {
    floats lanes, highest = (floats){0} + head->highest[row];
    for (int i = 0; i < LANES; i++) lanes[i] = (float)i;
    const int64_t width = round_up(sight.high);
    for (int64_t at = 0; at < width; at += LANES) {
        floats values = load(scores + at);
        if (sight.low > at || sight.high < at + LANES) {
            const ints seen =
                (lanes >= (float)(sight.low - at)) & (lanes < (float)(sight.high - at));
            values = choose(seen, values, (floats){0} - INFINITY);
            store(scores + at, values);
        }
        highest = higher(values, highest);
    }
    const float now = highest_of(highest);
    if (now > head->highest[row]) {
        const floats factor = exp_of_negative((floats){0} + (head->highest[row] - now));
        float *sums = head->sums + row * head->width;
        for (int64_t at = 0; at < head->width; at += LANES) store(sums + at, load(sums + at) * factor);
        head->totals[row] *= factor;
        head->highest[row] = now;
    }
    for (int64_t at = 0; at < width; at += LANES) {
        const floats weights = exp_of_negative(load(scores + at) - now);
        head->totals[row] += weights;
        store(scores + at, weights);
    }
}

/* The values of a lone row, where they lie; `head_dim` is a multiple of FEW_VECTORS vectors. */
static inline __attribute__((always_inline)) void add_slots(const struct block *block,
                                                            const int is_wide, int64_t head_dim,
                                                            struct sight sight,
                                                            const float *weights, float *to) {
    for (int64_t at = 0; at < head_dim; at += FEW_VECTORS * LANES) {
        floats sums[FEW_VECTORS];
        for (int v = 0; v < FEW_VECTORS; v++) sums[v] = load(to + at + v * LANES);
        for (int64_t i = sight.low; i < sight.high; i++) {
            const char *values = block->slots[i] + block->values_offset;
            for (int v = 0; v < FEW_VECTORS; v++)
                sums[v] += widen_vector(values, is_wide, at + v * LANES) * weights[i];
        }
        for (int v = 0; v < FEW_VECTORS; v++) store(to + at + v * LANES, sums[v]);
    }
}

/* Rows from `first` on take in the values of the keys that all of them see. */
static void add_values(const struct attention_batch *batch, const struct head *head,
                       const struct block *block, int64_t first, int64_t num_rows,
                       struct sight sight, const float *weights) {
    float *sums = head->sums + first * head->width;
    if (!block->values && batch->is_wide) {
        add_slots(block, 1, batch->head_dim, sight, weights, sums);
    } else if (!block->values) {
        add_slots(block, 0, batch->head_dim, sight, weights, sums);
    } else {
        const struct product product = {
            .left = weights + sight.low,
            .left_stride = BLOCK,
            .right = block->values + sight.low * head->width,
            .right_stride = head->width,
            .count = sight.high - sight.low,
            .sums = sums,
            .sums_stride = head->width,
        };
        add_product(&product, num_rows, head->width);
    }
}

/* Rows [first, first + num_rows) of a head, at most MAX_ROWS, look at a block. */
static void look(const struct attention_batch *batch, const struct tile *tile,
                 const struct head *head, const struct block *block, int64_t first,
                 int64_t num_rows) {
    struct sight sights[MAX_ROWS];
    for (int64_t r = 0; r < num_rows; r++)
        sights[r] = sight_of(batch, tile->position + (first + r) / head->group, block->start);
    const struct sight before = sights[0], after = sights[num_rows - 1];
    if (after.high <= 0 || before.low >= BLOCK) return;
    float scores[MAX_ROWS * BLOCK] __attribute__((aligned(64)));
    const struct product product = {
        .left = head->queries + first * head->width,
        .left_stride = head->width,
        .right = block->keys,
        .right_stride = BLOCK,
        .count = batch->head_dim,
        .sums = scores,
        .sums_stride = BLOCK,
        .are_sums_new = 1,
    };
    add_product(&product, num_rows, round_up(after.high));
    for (int64_t r = 0; r < num_rows; r++) {
        if (sights[r].low >= sights[r].high) continue;
        if (batch->biases) {
            const int64_t query_head = head->first_head + (first + r) % head->group;
            const float *biases = batch->biases + query_head * batch->biases_stride + block->start;
            for (int64_t i = sights[r].low; i < sights[r].high; i++)
                scores[r * BLOCK + i] += biases[i];
        }
        soften(head, first + r, sights[r], scores + r * BLOCK);
    }
    /* All of these rows see `common`; some see keys before or after, and look alone there. */
    const struct sight common = {after.low, most(before.high, after.low)};
    for (int64_t r = 0; r < num_rows; r++) {
        const struct sight early = {sights[r].low, least(sights[r].high, common.low)};
        if (early.low < early.high)
            add_values(batch, head, block, first + r, 1, early, scores + r * BLOCK);
    }
    if (common.low < common.high)
        add_values(batch, head, block, first, num_rows, common, scores);
    for (int64_t r = 0; r < num_rows; r++) {
        const struct sight late = {most(sights[r].low, common.high), sights[r].high};
        if (late.low < late.high)
            add_values(batch, head, block, first + r, 1, late, scores + r * BLOCK);
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

/* Slots lie further apart than a processor reads ahead by itself: so the next head's keys and values
 * are asked for while one is at work. It takes a quarter off where pages are not in a cache. */
static inline void prefetch(const char *const *slots, struct sight sight, int64_t offset,
                            int64_t num_bytes) {
    for (int64_t i = sight.low; i < sight.high; i++)
        for (int64_t at = 0; at < num_bytes; at += 64)
            __builtin_prefetch(slots[i] + offset + at, 0, 3);
}

/* One block of keys after the other; see attend_heads. */
static void look_at_all(const struct attention_batch *batch, const struct tile *tile,
                        const struct head *heads, int64_t first_kv, int64_t num_kv,
                        const char *pages) {
    const int64_t head_dim = batch->head_dim, width = heads->width;
    const int64_t num_rows = tile->num_tokens * heads->group;
    const int64_t head_bytes = head_dim * (batch->is_wide ? 4 : 2);
    const int64_t values_offset = batch->num_kv_heads * head_bytes;
    const int is_lone = num_rows == 1 && head_dim % (FEW_VECTORS * LANES) == 0;
    const int64_t first_key = most(tile->position + 1 - batch->window, 0);
    const int64_t end = tile->position + tile->num_tokens;
    float keys[(head_dim + 1) * BLOCK] __attribute__((aligned(64)));
    float values[BLOCK * width] __attribute__((aligned(64)));
    if (head_dim < width) memset(values, 0, sizeof values);
    const char *slots[BLOCK], *next_slots[BLOCK];
    int64_t start = first_key / BLOCK * BLOCK;
    struct sight sight = {first_key - start, least(end - start, BLOCK)}, next = {0, 0};
    find_slots(batch, tile, pages, start, sight, slots);
    for (; start < end; start += BLOCK) {
        next.high = most(least(end - start - BLOCK, BLOCK), 0);
        find_slots(batch, tile, pages, start + BLOCK, next, next_slots);
        for (int64_t kv = 0; kv < num_kv; kv++) {
            const int64_t offset = (first_kv + kv) * head_bytes;
            const struct block block = {start, keys, is_lone ? 0 : values, slots,
                                        offset + values_offset};
            if (kv + 1 < num_kv) {
                prefetch(slots, sight, offset + head_bytes, head_bytes);
                prefetch(slots, sight, offset + head_bytes + values_offset, head_bytes);
            } else {
                prefetch(next_slots, next, first_kv * head_bytes, head_bytes);
                prefetch(next_slots, next, first_kv * head_bytes + values_offset, head_bytes);
            }
            for (int64_t i = 0; i < sight.high; i += LANES)
                gather_keys(slots + i, offset, head_dim, batch->is_wide, keys + i);
            for (int64_t i = sight.low; !is_lone && i < sight.high; i++)
                widen_values(slots[i] + offset + values_offset, batch->is_wide, 1.0f, head_dim,
                             values + i * width);
            for (int64_t row = 0; row < num_rows; row += MAX_ROWS)
                look(batch, tile, &heads[kv], &block, row, least(num_rows - row, MAX_ROWS));
        }
        memcpy(slots, next_slots, sizeof slots);
        sight = next;
    }
}

/* The tokens of a tile, in key heads [first_kv, first_kv + num_kv). */
static void attend_heads(const struct attention_batch *batch, const struct tile *tile,
                         int64_t first_kv, int64_t num_kv, const char *pages, const char *queries,
                         char *outputs) {
    const int64_t group = batch->num_heads / batch->num_kv_heads, head_dim = batch->head_dim;
    const int64_t num_rows = tile->num_tokens * group, width = round_up(head_dim);
    const int64_t value_bytes = batch->is_wide ? 4 : 2;
    float all_queries[num_kv * num_rows * width] __attribute__((aligned(64)));
    float all_sums[num_kv * num_rows * width] __attribute__((aligned(64)));
    floats totals[num_kv * num_rows];
    float highest[num_kv * num_rows];
    struct head heads[num_kv];
    memset(all_sums, 0, sizeof all_sums);
#define PLACE(TOKEN_STRIDE)                                                                        \
    (((tile->token + row / group) * (TOKEN_STRIDE)                                                 \
      + (heads[kv].first_head + row % group) * head_dim) * value_bytes)
    for (int64_t kv = 0; kv < num_kv; kv++) {
        const int64_t at = kv * num_rows;
        heads[kv] = (struct head){(first_kv + kv) * group, group, width, all_queries + at * width,
                                  all_sums + at * width, totals + at, highest + at};
        for (int64_t row = 0; row < num_rows; row++) {
            widen_values(queries + PLACE(batch->query_stride), batch->is_wide, batch->scale,
                         head_dim, heads[kv].queries + row * width);
            totals[at + row] = (floats){0};
            highest[at + row] = -FLT_MAX;
        }
    }
    look_at_all(batch, tile, heads, first_kv, num_kv, pages);
    for (int64_t kv = 0; kv < num_kv; kv++)
        for (int64_t row = 0; row < num_rows; row++)
            narrow_values(heads[kv].sums + row * width, batch->is_wide,
                          1.0f / sum_of(heads[kv].totals[row]), head_dim,
                          outputs + PLACE(batch->num_heads * head_dim));
}

/* `pages` [num_pages, page_size, 2 * num_kv_heads, head_dim], keys before values. */
void attend(const struct attention_batch *batch, const void *pages, const void *queries,
            void *outputs) {
    const int64_t group = batch->num_heads / batch->num_kv_heads, kv = batch->num_kv_heads;
    const int64_t most_tokens = most(TILE_ROWS / group, 1);
    const int32_t *starts = batch->starts;
    struct tile tiles[batch->num_segments + starts[batch->num_segments] / most_tokens];
    int64_t num_tiles = 0;
    for (int64_t s = 0; s < batch->num_segments; s++)
        for (int64_t token = starts[s]; token < starts[s + 1]; token += most_tokens)
            tiles[num_tiles++] = (struct tile){
                .table = batch->tables + s * batch->table_width,
                .token = token,
                .num_tokens = least(starts[s + 1] - token, most_tokens),
                .position = batch->positions[s] + token - starts[s],
            };
    const int64_t wanted = batch->num_threads > 1 ? batch->num_threads * SHARES : 1;
    const int64_t num_shares = least(kv, (wanted + num_tiles - 1) / most(num_tiles, 1));
#pragma omp parallel for schedule(dynamic) collapse(2) num_threads(batch->num_threads)
    for (int64_t t = 0; t < num_tiles; t++)
        for (int64_t share = 0; share < num_shares; share++) {
            const int64_t fitting = most(TILE_ROWS / (tiles[t].num_tokens * group), 1);
            const int64_t end = kv * (share + 1) / num_shares;
            for (int64_t first = kv * share / num_shares; first < end; first += fitting)
                attend_heads(batch, &tiles[t], first, least(end - first, fitting), pages, queries,
                             outputs);
        }
}
