/* Tiles of AMX: eight registers of 16 rows of 64 bytes, and what multiplies them.
 *
 * A processor without them computes the same here, slowly: to try kernels out, not to use them.
 * Which register is meant must be a constant. Of "Advanced Matrix Extensions", Intel's
 * Architecture Instruction Set Extensions Programming Reference, chapter 3.
 */
#ifndef SWARMGATE_AMX_TILES_H
#define SWARMGATE_AMX_TILES_H

#include <stdint.h>
#include <string.h>

#define TILE_ROWS 16
#define TILE_ROW_BYTES 64
#define TILE_BYTES (TILE_ROWS * TILE_ROW_BYTES)

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HAS_TILES 1

/* The kernel keeps their contents over a change of threads only for processes that ask for it. */
static inline int ask_for_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* All eight, whole; until `release_tiles`. */
static inline void take_tiles(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } __attribute__((aligned(64))) layout = {.palette = 1};
    for (int i = 0; i < 8; i++) layout.row_bytes[i] = TILE_ROW_BYTES, layout.rows[i] = TILE_ROWS;
    __asm__ volatile("" : : "r"(&layout) : "memory"); /* GCC's intrinsic names 8 bytes of it only */
    _tile_loadconfig(&layout);
}

static inline void release_tiles(void) { _tile_release(); }

#define CLEAR_TILE(TILE) _tile_zero(TILE)
#define LOAD_TILE(TILE, FROM) _tile_loadd(TILE, FROM, TILE_ROW_BYTES)
#define STORE_TILE(TILE, TO) _tile_stored(TILE, TO, TILE_ROW_BYTES)

/* SUMS += ROWS @ PANEL, where a row of PANEL has a pair of inputs for each of 16 outputs. */
#define MULTIPLY_TILES(SUMS, ROWS, PANEL) _tile_dpbf16ps(SUMS, ROWS, PANEL)

#else

#define HAS_TILES 0

static inline int ask_for_tiles(void) { return 0; }

static inline void take_tiles(void) {}

static inline void release_tiles(void) {}

static _Thread_local uint32_t tiles_[8][TILE_ROWS][TILE_ROW_BYTES / 4];

#define CLEAR_TILE(TILE) memset(tiles_[TILE], 0, TILE_BYTES)
#define LOAD_TILE(TILE, FROM) memcpy(tiles_[TILE], FROM, TILE_BYTES)
#define STORE_TILE(TILE, TO) memcpy(TO, tiles_[TILE], TILE_BYTES)
#define MULTIPLY_TILES(SUMS, ROWS, PANEL) multiply_tiles_(tiles_[SUMS], tiles_[ROWS], tiles_[PANEL])

static inline float number_(uint32_t bits) {
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static inline void multiply_tiles_(uint32_t sums[TILE_ROWS][16], uint32_t rows[TILE_ROWS][16],
                                   uint32_t panel[TILE_ROWS][16]) {
    for (int r = 0; r < TILE_ROWS; r++)
        for (int pair = 0; pair < TILE_ROWS; pair++)
            for (int output = 0; output < 16; output++) {
                const uint32_t row = rows[r][pair], weight = panel[pair][output];
                const float sum = number_(sums[r][output])
                                  + number_(row << 16) * number_(weight << 16)
                                  + number_(row & 0xffff0000u) * number_(weight & 0xffff0000u);
                memcpy(&sums[r][output], &sum, sizeof sum);
            }
}

#endif
#endif
