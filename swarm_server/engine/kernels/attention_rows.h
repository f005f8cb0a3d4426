/* What rows do alike, whether they look together or alone: find keys, and turn scores into weights.
 */
#ifndef SWARMGATE_ATTENTION_ROWS_H
#define SWARMGATE_ATTENTION_ROWS_H

#include "attention.h"

/* Which of some keys a row sees: [low, high). */
struct sight {
    int64_t low, high;
};

/* The first position that any row of a tile sees. */
static inline int64_t first_seen(const struct attention_batch *batch, const struct tile *tile) {
    return most(tile->position + 1 - batch->window, 0);
}

/* Where keys [start, start + high) lie. What is not in sight is not looked at, but read, up to the
 * end of a vector: so it is one of the others. */
static inline void find_slots(const struct piece *piece, const struct tile *tile, int64_t start,
                              struct sight sight, const char **slots) {
    const struct attention_batch *batch = piece->batch;
    const int64_t page_size = batch->page_size;
    const int64_t slot_bytes = 2 * batch->num_kv_heads * bytes_of_head(batch);
    if (sight.low >= sight.high) return;
    int64_t page = (start + sight.low) / page_size, offset = (start + sight.low) % page_size;
    for (int64_t i = sight.low; i < sight.high; i++, offset++) {
        if (offset == page_size) page++, offset = 0;
        slots[i] = piece->pages + (tile->table[page] * page_size + offset) * slot_bytes;
    }
    for (int64_t i = 0; i < sight.low; i++) slots[i] = slots[sight.low];
    for (int64_t i = sight.high; i < round_up(sight.high); i++) slots[i] = slots[sight.low];
}

/* What ALiBi adds to the scores of one row; they begin with that of key `start`. */
static inline void add_biases(const struct attention_batch *batch, int64_t query_head,
                              int64_t start, struct sight sight, float *scores) {
    if (!batch->biases) return;
    const float *biases = batch->biases + query_head * batch->biases_stride + start;
    for (int64_t i = sight.low; i < sight.high; i++) scores[i] += biases[i];
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

#endif
