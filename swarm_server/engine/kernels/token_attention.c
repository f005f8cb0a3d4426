/* A lone token looks at its keys: few rows for each key head, of which each sees all keys.
 *
 * Nothing is widened into scratch. A score has a lane, and keys become columns on their way to it; a
 * value is used where it lies, and in bfloat16 as pairs, whose first and second numbers are summed
 * up apart. What is summed up, and in which order, is what tile_attention.c does.
 *
 * First come the keys of all heads, then the values of all heads, a block or two at a time: in this
 * way slots are read as they lie, and whoever reads keys asks for the values meanwhile, who reads
 * values for the next keys. A processor reads ahead by itself only within 4 KiB, a slot of most models.
 */
#include "attention_rows.h"
#include "columns.h"

#define STRETCH (2 * BLOCK)
#define MAX_ROWS 4 /* that share a key when it is a column, or a value */
#define MAX_SUMS 4 /* vectors of a row at a time: a lone sum waits for its own last addition */

/* Some keys of a token, from the beginning of a block on. */
struct stretch {
    int64_t start;
    struct sight sight; /* from `start` on */
    const char *slots[STRETCH];
};

/* Keys or values of one head in a stretch, and what its rows make of them. */
struct part {
    const struct stretch *stretch, *ahead; /* `ahead`: what will be read next */
    int64_t offset, ahead_offset;          /* in a slot, in bytes */
    int64_t num_vectors;
    const struct head *head;
    float *scores; /* [group, STRETCH]; then weights */
};

int can_look_alone(const struct attention_batch *batch) {
    return bytes_of_head(batch) % (int64_t)sizeof(words) == 0;
}

/* A block at a time, but the last two together: a few keys at the end do not leave time to ask for
 * those of the next token. */
static int64_t end_of_stretch(int64_t start, int64_t end) {
    return end - start <= STRETCH ? end : start + BLOCK;
}

static void find_stretch(const struct piece *piece, const struct tile *tile, int64_t start,
                         struct stretch *stretch) {
    const int64_t end = end_of_stretch(start, tile->position + 1);
    stretch->start = start;
    stretch->sight = (struct sight){most(first_seen(piece->batch, tile) - start, 0), end - start};
    find_slots(piece, tile, start, stretch->sight, stretch->slots);
    const char *any = stretch->slots[stretch->sight.low]; /* whoever asks ahead asks for it again */
    for (int64_t i = end - start; i < STRETCH; i++) stretch->slots[i] = any;
}

static int64_t first_block(const struct piece *piece, const struct tile *tile) {
    return first_seen(piece->batch, tile) / BLOCK * BLOCK;
}

/* Scores of LANES keys, from `at` on, in rows from `row` on. What is const and no pointer is a constant
 * wherever this is inlined; so it is below. */
ALWAYS_INLINE void score_keys(const struct part *keys, int64_t at, int64_t row, const int is_wide,
                              const int num_rows) {
    const struct head *head = keys->head;
    const char *const *slots = keys->stretch->slots + at;
    const char *const *ahead = keys->ahead->slots + at;
    const float *queries = head->queries + row * head->width;
    floats sums[MAX_ROWS];
    struct deck deck;
    for (int r = 0; r < num_rows; r++) sums[r] = (floats){0};
    for (int64_t v = 0; v < keys->num_vectors; v++) {
        const int64_t place = v * (int64_t)sizeof(words);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            memcpy(&deck.rows[i], slots[i] + keys->offset + place, sizeof(words));
            __builtin_prefetch(ahead[i] + keys->ahead_offset + place, 0, 2);
        }
#pragma GCC unroll 4
        for (int quarter = 0; quarter < LANES / 4; quarter++) {
            words columns[4];
            take_columns(&deck, quarter, columns);
            const float *inputs = queries + (v * LANES + 4 * quarter) * (is_wide ? 1 : 2);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                for (int r = 0; r < num_rows; r++) {
                    const float *input = inputs + r * head->width;
                    if (is_wide) {
                        sums[r] += (floats)columns[j] * input[j];
                    } else {
                        sums[r] += first_of(columns[j]) * input[2 * j];
                        sums[r] += second_of(columns[j]) * input[2 * j + 1];
                    }
                }
        }
    }
    for (int r = 0; r < num_rows; r++) store(keys->scores + (row + r) * STRETCH + at, sums[r]);
}

/* Vector `first` of all values in sight, and so many after it. */
ALWAYS_INLINE void add_vectors(const struct part *values, struct sight sight, int64_t row,
                               int64_t first, const int is_wide, const int num_rows,
                               const int num_vectors) {
    const char *const *slots = values->stretch->slots, *const *ahead = values->ahead->slots;
    const int64_t place = first * (int64_t)sizeof(words);
    const int num_sums = is_wide ? num_vectors : 2 * num_vectors;
    const int64_t width = values->head->width;
    const float *weights = values->scores + row * STRETCH;
    float *to = values->head->sums + row * width + first * LANES * (is_wide ? 1 : 2);
    floats sums[MAX_ROWS][MAX_SUMS];
    for (int r = 0; r < num_rows; r++)
        for (int s = 0; s < num_sums; s++) sums[r][s] = load(to + r * width + s * LANES);
    for (int64_t i = sight.low; i < sight.high; i++) {
        const char *value = slots[i] + values->offset + place;
        for (int v = 0; v < num_vectors; v++) {
            words numbers;
            memcpy(&numbers, value + v * sizeof numbers, sizeof numbers);
            __builtin_prefetch(ahead[i] + values->ahead_offset + place + v * sizeof numbers, 0, 2);
            for (int r = 0; r < num_rows; r++) {
                const float weight = weights[r * STRETCH + i];
                if (is_wide) {
                    sums[r][v] += (floats)numbers * weight;
                } else {
                    sums[r][2 * v] += first_of(numbers) * weight;
                    sums[r][2 * v + 1] += second_of(numbers) * weight;
                }
            }
        }
    }
    for (int r = 0; r < num_rows; r++)
        for (int s = 0; s < num_sums; s++) store(to + r * width + s * LANES, sums[r][s]);
}

ALWAYS_INLINE void add_values(const struct part *values, struct sight sight, int64_t row,
                              const int is_wide, const int num_rows) {
    const int together = MAX_SUMS / (is_wide ? 1 : 2) / (num_rows == MAX_ROWS ? 2 : 1);
    int64_t v = 0;
    for (; v + together <= values->num_vectors; v += together)
        add_vectors(values, sight, row, v, is_wide, num_rows, together);
    for (; v < values->num_vectors; v++)
        add_vectors(values, sight, row, v, is_wide, num_rows, 1);
}

/* Rows of a group that go through together. */
static int64_t count_together(int64_t left) { return left >= 4 ? 4 : left >= 2 ? 2 : 1; }

#define BY_KIND(NUM_ROWS, IS_WIDE, CALL, ...)                                                      \
    switch ((NUM_ROWS) * 2 + ((IS_WIDE) != 0)) {                                                   \
        case 2: CALL(__VA_ARGS__, 0, 1); break;                                                    \
        case 3: CALL(__VA_ARGS__, 1, 1); break;                                                    \
        case 4: CALL(__VA_ARGS__, 0, 2); break;                                                    \
        case 5: CALL(__VA_ARGS__, 1, 2); break;                                                    \
        case 8: CALL(__VA_ARGS__, 0, 4); break;                                                    \
        case 9: CALL(__VA_ARGS__, 1, 4); break;                                                    \
    }

/* All rows of a head look at the keys of a block, which begins `at` keys into the stretch. */
static void look_at_keys(const struct part *keys, int64_t at, int is_wide) {
    const int64_t end = round_up(least(keys->stretch->sight.high, at + BLOCK));
    for (int64_t row = 0, count; row < keys->head->group; row += count) {
        count = count_together(keys->head->group - row);
        for (int64_t i = at; i < end; i += LANES)
            BY_KIND(count, is_wide, score_keys, keys, i, row)
    }
}

static void look_at_values(const struct part *values, int64_t at,
                           const struct attention_batch *batch) {
    const struct stretch *stretch = values->stretch;
    const struct head *head = values->head;
    const struct sight own = {most(stretch->sight.low - at, 0),
                              least(stretch->sight.high - at, BLOCK)};
    const struct sight sight = {at + own.low, at + own.high};
    for (int64_t row = 0; row < head->group; row++) {
        float *scores = values->scores + row * STRETCH + at;
        add_biases(batch, head->first_head + row, stretch->start + at, own, scores);
        soften(head, row, own, scores);
    }
    for (int64_t row = 0, count; row < head->group; row += count) {
        count = count_together(head->group - row);
        BY_KIND(count, batch->is_wide, add_values, values, sight, row)
    }
}

static void look_at_stretch(const struct piece *piece, const struct stretch *stretch,
                            const struct stretch *ahead, float *scores) {
    const struct attention_batch *batch = piece->batch;
    const int64_t head_bytes = bytes_of_head(batch), all_keys = batch->num_kv_heads * head_bytes;
    struct part keys[piece->num_kv], values[piece->num_kv];
    for (int64_t kv = 0; kv < piece->num_kv; kv++) {
        const struct head *head = &piece->heads[kv];
        const int64_t offset = (piece->first_kv + kv) * head_bytes;
        const int64_t num_vectors = head_bytes / (int64_t)sizeof(words);
        float *own = scores + kv * head->group * STRETCH;
        keys[kv] = (struct part){stretch, stretch, offset, offset + all_keys, num_vectors, head, own};
        values[kv] = (struct part){stretch, ahead, offset + all_keys, offset, num_vectors, head, own};
    }
    for (int64_t at = 0; at < stretch->sight.high; at += BLOCK)
        for (int64_t kv = 0; kv < piece->num_kv; kv++)
            look_at_keys(&keys[kv], at, batch->is_wide);
    for (int64_t at = 0; at < stretch->sight.high; at += BLOCK)
        for (int64_t kv = 0; kv < piece->num_kv; kv++) look_at_values(&values[kv], at, batch);
}

/* First and second numbers of pairs, which were summed up apart, in the order of the inputs. */
static void join_pairs(const struct head *head) {
    for (float *at = head->sums; at < head->sums + head->group * head->width; at += 2 * LANES) {
        const words first = (words)load(at), second = (words)load(at + LANES);
        store(at, (floats)LOWER(first, second));
        store(at + LANES, (floats)UPPER(first, second));
    }
}

void look_alone(const struct piece *piece) {
    const struct tile *next = piece->next;
    const int64_t end = piece->tile->position + 1;
    float scores[piece->num_kv * piece->heads->group * STRETCH] __attribute__((aligned(64)));
    struct stretch stretches[2], *stretch = &stretches[0], *ahead = &stretches[1];
    find_stretch(piece, piece->tile, first_block(piece, piece->tile), stretch);
    for (;;) {
        const int64_t after = end_of_stretch(stretch->start, end);
        if (after < end)
            find_stretch(piece, piece->tile, after, ahead);
        else if (next)
            find_stretch(piece, next, first_block(piece, next), ahead);
        look_at_stretch(piece, stretch, after < end || next ? ahead : stretch, scores);
        if (after == end) break;
        struct stretch *done = stretch;
        stretch = ahead;
        ahead = done;
    }
    if (!piece->batch->is_wide)
        for (int64_t kv = 0; kv < piece->num_kv; kv++) join_pairs(&piece->heads[kv]);
}
