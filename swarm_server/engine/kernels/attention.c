/* Attention over keys and values in pages, on the CPU: of lone new tokens and of whole chunks.
 *
 * Neighbouring tokens of a sequence go over its keys together, up to so many as a tile has:
 * tile_attention.c. A token that comes alone goes another way, which is shorter for few rows:
 * token_attention.c. In both the softmax is taken along the way, block of keys by block (Milakov and
 * Gimelshein, 2018; Dao et al., 2022): attention_rows.h. Blocks begin at multiples of BLOCK
 * positions. Each score is one sum in the order of head_dim, each output one in the order of keys: a
 * token's outputs are the same bits whatever goes through beside it, alone or in a chunk, for any
 * number of threads. Built by build.py, called by attention.py; nothing here is known to Python but
 * `struct attention_batch` and `attend`.
 */
#include <float.h>

#include "attention.h"

#define TILE_ROWS 128 /* queries that share a block, about; with their outputs in a second cache */
#define SHARES 4 /* pieces of work for each thread, at least, where there are as many */

/* `count` values of a head as float32, times a factor. */
static void widen_head(const char *from, int is_wide, float factor, int64_t count, float *to) {
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t left = least(count - i, LANES);
        store(to + i, widen_values(from, is_wide, i, left) * factor);
    }
}

/* The other way. */
static void narrow_head(const float *from, int is_wide, float factor, int64_t count, char *to) {
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t left = least(count - i, LANES);
        const floats values = load(from + i) * factor;
        if (is_wide)
            memcpy(to + i * 4, &values, (size_t)left * 4);
        else
            narrow_some(values, left, (uint16_t *)to + i);
    }
}

/* Queries come in, outputs leave; in between rows look at keys and values. */
static void attend_piece(struct piece *piece, const char *queries, char *outputs) {
    const struct attention_batch *batch = piece->batch;
    const struct tile *tile = piece->tile;
    const int64_t group = batch->num_heads / batch->num_kv_heads, head_dim = batch->head_dim;
    const int64_t num_kv = piece->num_kv, num_rows = tile->num_tokens * group;
    const int64_t width = round_up(head_dim), value_bytes = batch->is_wide ? 4 : 2;
    float all_queries[num_kv * num_rows * width] __attribute__((aligned(64)));
    float all_sums[num_kv * num_rows * width] __attribute__((aligned(64)));
    floats totals[num_kv * num_rows];
    float highest[num_kv * num_rows];
    struct head heads[num_kv];
    memset(all_sums, 0, sizeof all_sums);
    memset(totals, 0, sizeof totals);
#define PLACE(TOKEN_STRIDE)                                                                        \
    (((tile->token + row / group) * (TOKEN_STRIDE)                                                 \
      + (heads[kv].first_head + row % group) * head_dim) * value_bytes)
    for (int64_t kv = 0; kv < num_kv; kv++) {
        const int64_t at = kv * num_rows;
        heads[kv] = (struct head){(piece->first_kv + kv) * group, group, width,
                                  all_queries + at * width, all_sums + at * width, totals + at,
                                  highest + at};
        for (int64_t row = 0; row < num_rows; row++) {
            widen_head(queries + PLACE(batch->query_stride), batch->is_wide, batch->scale,
                       head_dim, heads[kv].queries + row * width);
            highest[at + row] = -FLT_MAX;
        }
    }
    piece->heads = heads;
    if (tile->num_tokens == 1 && can_look_alone(batch))
        look_alone(piece);
    else
        look_together(piece);
    for (int64_t kv = 0; kv < num_kv; kv++)
        for (int64_t row = 0; row < num_rows; row++)
            narrow_head(heads[kv].sums + row * width, batch->is_wide,
                        1.0f / sum_of(heads[kv].totals[row]), head_dim,
                        outputs + PLACE(batch->num_heads * head_dim));
}

/* Cut the segments of a batch into tiles of so many tokens at most; returns how many there are. */
static int64_t cut_tiles(const struct attention_batch *batch, int64_t most_tokens,
                         struct tile *tiles) {
    const int32_t *starts = batch->starts;
    int64_t num_tiles = 0;
    for (int64_t s = 0; s < batch->num_segments; s++)
        for (int64_t token = starts[s]; token < starts[s + 1]; token += most_tokens)
            tiles[num_tiles++] = (struct tile){
                .table = batch->tables + s * batch->table_width,
                .token = token,
                .num_tokens = least(starts[s + 1] - token, most_tokens),
                .position = batch->positions[s] + token - starts[s],
            };
    return num_tiles;
}

void attend(const struct attention_batch *batch, const void *pages, const void *queries,
            void *outputs) {
    const int64_t group = batch->num_heads / batch->num_kv_heads, kv = batch->num_kv_heads;
    const int64_t most_tokens = most(TILE_ROWS / group, 1);
    struct tile tiles[batch->num_segments + batch->starts[batch->num_segments] / most_tokens];
    const int64_t num_tiles = cut_tiles(batch, most_tokens, tiles);
    const int64_t wanted = batch->num_threads > 1 ? batch->num_threads * SHARES : 1;
    const int64_t num_shares = least(kv, (wanted + num_tiles - 1) / most(num_tiles, 1));
#pragma omp parallel for schedule(dynamic) collapse(2) num_threads(batch->num_threads)
    for (int64_t t = 0; t < num_tiles; t++)
        for (int64_t share = 0; share < num_shares; share++) {
            const int64_t fitting = most(TILE_ROWS / (tiles[t].num_tokens * group), 1);
            const int64_t end = kv * (share + 1) / num_shares;
            for (int64_t first = kv * share / num_shares; first < end; first += fitting) {
                struct piece piece = {
                    .batch = batch,
                    .tile = &tiles[t],
                    .next = batch->num_threads == 1 && t + 1 < num_tiles ? &tiles[t + 1] : NULL,
                    .first_kv = first,
                    .num_kv = least(end - first, fitting),
                    .pages = pages,
                };
                attend_piece(&piece, queries, outputs);
            }
        }
}
