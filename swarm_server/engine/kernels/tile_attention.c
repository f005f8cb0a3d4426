/* Tokens of a tile look at their keys together: products of small matrices.
 *
 * A block of keys and values becomes float32 once for all rows, keys with their inputs in rows, so
 * that scores and outputs are
 *
 *     scores  [rows, BLOCK]    = queries [rows, head_dim] x keys   [head_dim, BLOCK]
 *     outputs [rows, head_dim] = weights [rows, BLOCK]    x values [BLOCK, head_dim]
 *
 * whose sums stay in registers.
 */
#include "attention_rows.h"
#include "columns.h"

#define MAX_ROWS (NUM_REGISTERS / 4) /* sums of so many rows, two vectors each, fit the registers */
#define VECTORS 2 /* that many rows go through together, */
#define FEW_VECTORS 4 /* and that one or two do: a lone sum waits for its own last addition */

/* LANES keys as float32 into columns of `to`, [head_dim (made even), BLOCK]. */
static void gather_keys(const char *const *slots, int64_t offset, int64_t num_bytes, int is_wide,
                        float *to) {
    const int64_t step = sizeof(words);
    for (int64_t at = 0; at < num_bytes; at += step) {
        const int64_t left = num_bytes - at;
        struct deck deck;
        if (left >= step) {
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                memcpy(&deck.rows[i], slots[i] + offset + at, sizeof(words));
        } else {
            memset(&deck, 0, sizeof deck);
            for (int i = 0; i < LANES; i++)
                memcpy(&deck.rows[i], slots[i] + offset + at, (size_t)left);
        }
        const int64_t num_words = least((left + 3) / 4, LANES);
        for (int quarter = 0; quarter < (num_words + 3) / 4; quarter++) {
            words columns[4];
            take_columns(&deck, quarter, columns);
            const int64_t count = least(num_words - 4 * quarter, 4), word = at / 4 + 4 * quarter;
            for (int64_t j = 0; j < count; j++) {
                if (is_wide) {
                    store(to + (word + j) * BLOCK, (floats)columns[j]);
                } else {
                    store(to + 2 * (word + j) * BLOCK, first_of(columns[j]));
                    store(to + (2 * (word + j) + 1) * BLOCK, second_of(columns[j]));
                }
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
ALWAYS_INLINE void add_vectors(const struct product *product, int64_t at, const int num_rows,
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

/* Keys and values of one key head, at positions [start, start + BLOCK). */
struct block {
    int64_t start;
    float *keys;   /* [head_dim, BLOCK] */
    float *values; /* [BLOCK, width] */
};

/* Which keys of a block the row of a position sees. */
static inline struct sight sight_of(const struct attention_batch *batch, int64_t position,
                                    int64_t start) {
    const int64_t end = position + 1 - start;
    return (struct sight){most(end - batch->window, 0), least(end, BLOCK)};
}

/* Rows from `first` on take in the values of the keys that all of them see. */
static void add_values(const struct head *head, const struct block *block, int64_t first,
                       int64_t num_rows, struct sight sight, const float *weights) {
    if (sight.low >= sight.high) return;
    const struct product product = {
        .left = weights + sight.low,
        .left_stride = BLOCK,
        .right = block->values + sight.low * head->width,
        .right_stride = head->width,
        .count = sight.high - sight.low,
        .sums = head->sums + first * head->width,
        .sums_stride = head->width,
    };
    add_product(&product, num_rows, head->width);
}

/* Rows [first, first + num_rows) of a head, at most MAX_ROWS, look at a block. */
static void look(const struct piece *piece, const struct head *head, const struct block *block,
                 int64_t first, int64_t num_rows) {
    struct sight sights[MAX_ROWS];
    for (int64_t r = 0; r < num_rows; r++)
        sights[r] = sight_of(piece->batch, piece->tile->position + (first + r) / head->group,
                             block->start);
    const struct sight before = sights[0], after = sights[num_rows - 1];
    if (after.high <= 0 || before.low >= BLOCK) return;
    float scores[MAX_ROWS * BLOCK] __attribute__((aligned(64)));
    const struct product product = {
        .left = head->queries + first * head->width,
        .left_stride = head->width,
        .right = block->keys,
        .right_stride = BLOCK,
        .count = piece->batch->head_dim,
        .sums = scores,
        .sums_stride = BLOCK,
        .are_sums_new = 1,
    };
    add_product(&product, num_rows, round_up(after.high));
    for (int64_t r = 0; r < num_rows; r++) {
        if (sights[r].low >= sights[r].high) continue;
        add_biases(piece->batch, head->first_head + (first + r) % head->group, block->start,
                   sights[r], scores + r * BLOCK);
        soften(head, first + r, sights[r], scores + r * BLOCK);
    }
    /* All of these rows see `common`; some see keys before or after, and look alone there. */
    const struct sight common = {after.low, most(before.high, after.low)};
    for (int64_t r = 0; r < num_rows; r++)
        add_values(head, block, first + r, 1,
                   (struct sight){sights[r].low, least(sights[r].high, common.low)},
                   scores + r * BLOCK);
    add_values(head, block, first, num_rows, common, scores);
    for (int64_t r = 0; r < num_rows; r++)
        add_values(head, block, first + r, 1,
                   (struct sight){most(sights[r].low, common.high), sights[r].high},
                   scores + r * BLOCK);
}

/* Slots lie further apart than a processor reads ahead by itself: so the next head's keys and values
 * are asked for while one is at work. It takes a quarter off where pages are not in a cache. */
static inline void prefetch(const char *const *slots, struct sight sight, int64_t offset,
                            int64_t values_offset, int64_t num_bytes) {
    for (int64_t i = sight.low; i < sight.high; i++)
        for (int64_t at = 0; at < num_bytes; at += 64) {
            __builtin_prefetch(slots[i] + offset + at, 0, 3);
            __builtin_prefetch(slots[i] + offset + values_offset + at, 0, 3);
        }
}

/* All rows of a head look at a block, of which keys in `sight` are seen by some of them. */
static void look_at_block(const struct piece *piece, int64_t kv, const char *const *slots,
                          struct sight sight, const struct block *block) {
    const struct attention_batch *batch = piece->batch;
    const struct head *head = &piece->heads[kv];
    const int64_t head_bytes = bytes_of_head(batch), offset = (piece->first_kv + kv) * head_bytes;
    const int64_t num_rows = piece->tile->num_tokens * head->group;
    for (int64_t i = 0; i < sight.high; i += LANES)
        gather_keys(slots + i, offset, head_bytes, batch->is_wide, block->keys + i);
    for (int64_t i = sight.low; i < sight.high; i++) {
        const char *values = slots[i] + offset + batch->num_kv_heads * head_bytes;
        for (int64_t at = 0; at < batch->head_dim; at += LANES)
            store(block->values + i * head->width + at,
                  widen_values(values, batch->is_wide, at, batch->head_dim - at));
    }
    for (int64_t row = 0; row < num_rows; row += MAX_ROWS)
        look(piece, head, block, row, least(num_rows - row, MAX_ROWS));
}

void look_together(const struct piece *piece) {
    const struct attention_batch *batch = piece->batch;
    const int64_t head_bytes = bytes_of_head(batch);
    const int64_t values_offset = batch->num_kv_heads * head_bytes, width = piece->heads->width;
    const int64_t first_key = first_seen(batch, piece->tile);
    const int64_t end = piece->tile->position + piece->tile->num_tokens;
    float keys[(batch->head_dim + 1) * BLOCK] __attribute__((aligned(64)));
    float values[BLOCK * width] __attribute__((aligned(64)));
    const char *slots[BLOCK], *next_slots[BLOCK];
    struct block block = {first_key / BLOCK * BLOCK, keys, values};
    struct sight sight = {first_key - block.start, least(end - block.start, BLOCK)};
    struct sight next = {0, 0};
    find_slots(piece, piece->tile, block.start, sight, slots);
    for (; block.start < end; block.start += BLOCK) {
        next.high = most(least(end - block.start - BLOCK, BLOCK), 0);
        find_slots(piece, piece->tile, block.start + BLOCK, next, next_slots);
        for (int64_t kv = 0; kv < piece->num_kv; kv++) {
            const int64_t offset = (piece->first_kv + kv + 1) * head_bytes;
            if (kv + 1 < piece->num_kv)
                prefetch(slots, sight, offset, values_offset, head_bytes);
            else
                prefetch(next_slots, next, piece->first_kv * head_bytes, values_offset, head_bytes);
            look_at_block(piece, kv, slots, sight, &block);
        }
        memcpy(slots, next_slots, sizeof slots);
        sight = next;
    }
}
