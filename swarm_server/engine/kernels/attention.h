/* What the modules of the attention kernel tell each other: see attention.c. */
#ifndef SWARMGATE_ATTENTION_H
#define SWARMGATE_ATTENTION_H

#include <stdint.h>

#include "vectors.h"

#define BLOCK 64 /* keys; with their values they fit a first cache */

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
    float *sums;        /* [num_rows, width]: of weighted values, so far */
    floats *totals;     /* [num_rows] of weights so far, a part in each lane */
    float *highest;     /* [num_rows] of scores so far */
};

/* What a thread does at a time: the tokens of a tile, in key heads [first_kv, first_kv + num_kv). */
struct piece {
    const struct attention_batch *batch;
    const struct tile *tile;
    const struct tile *next; /* what this thread does after it, where that is known, or NULL */
    int64_t first_kv, num_kv;
    const struct head *heads; /* [num_kv] */
    const char *pages; /* [num_pages, page_size, 2 * num_kv_heads, head_dim], keys before values */
};

static inline int64_t bytes_of_head(const struct attention_batch *batch) {
    return batch->head_dim * (batch->is_wide ? 4 : 2);
}

/* Rows of several tokens: tile_attention.c. */
void look_together(const struct piece *piece);

/* Rows of one token, where heads are whole vectors: token_attention.c. */
int can_look_alone(const struct attention_batch *batch);
void look_alone(const struct piece *piece);

#endif
