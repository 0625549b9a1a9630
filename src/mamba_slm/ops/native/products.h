// Products of small packed matrices in registers: c[m x n] = a[m x k] b[k x n], summed in float32.
//
// Everything is read in words of 32 bits along k: one float32, or two neighbouring bfloat16, which one instruction
// multiplies and adds. So the same loops serve both. b is packed with its n side by side: [k in words][n]; a lies in
// rows [m][k in words] or down columns [k in words][m], and needs no packing. Written for the 32 registers of AVX-512.
#pragma once
#include <cstdlib>
#include <new>
#include "simd.h"

typedef uint32_t word;

template <class T>
constexpr int PER_WORD = sizeof(word) / sizeof(T);

constexpr int ROWS = 6, VECTORS = 4;  // of sums that are held in registers
constexpr int TILE = VECTORS * LANES;

static inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Memory at a cache line's start, not initialised.
template <class T>
struct Buffer {
  T* data;
  explicit Buffer(int64_t size) {
    data = static_cast<T*>(std::aligned_alloc(64, larger(round_up(size * sizeof(T), 64), 64)));
    if (!data) std::abort();
  }
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  operator T*() const { return data; }
};

template <class T>
static inline f16 multiply_add(f16 sum, u16 a, u16 b) {
#ifdef __AVX512BF16__
  if constexpr (PER_WORD<T> == 2) return (f16)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#endif
  return sum + (f16)a * (f16)b;
}

static inline u16 load(const word* p) {
  u16 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

enum Layout { IN_ROWS, IN_COLUMNS };        // of a
enum Start { FROM_ZERO, FROM_C, FROM_SCALED_C };  // scaled: row m of c is multiplied by scale[m] before

template <class T, int NV, Layout LAYOUT, Start START>
__attribute__((noinline)) void product_tile(const word* a, int64_t lda, const word* b, int64_t ldb, int64_t k, float* c,
                                int64_t ldc, const float* scale) {
  f16 sum[ROWS][NV];
#pragma GCC unroll 8
  for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 4
    for (int n = 0; n < NV; n++) {
      sum[m][n] = START == FROM_ZERO ? splat(0) : load(c + m * ldc + n * LANES);
      if (START == FROM_SCALED_C) sum[m][n] *= scale[m];
    }
  for (int64_t i = 0; i < k; i++, b += ldb) {
    u16 row[NV];
#pragma GCC unroll 4
    for (int n = 0; n < NV; n++) {
      row[n] = load(b + n * LANES);
      asm("" : "+v"(row[n]));  // or else GCC loads it anew for each row of a
    }
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; m++) {
      u16 value = u16{} + (LAYOUT == IN_ROWS ? a[m * lda + i] : a[i * lda + m]);
#pragma GCC unroll 4
      for (int n = 0; n < NV; n++) sum[m][n] = multiply_add<T>(sum[m][n], value, row[n]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 4
    for (int n = 0; n < NV; n++) store(c + m * ldc + n * LANES, sum[m][n]);
}

// ROWS rows of c, `vectors` times LANES wide, in tiles of about the same width. k counts words.
template <class T, Layout LAYOUT = IN_ROWS, Start START = FROM_ZERO>
static inline void product(const word* a, int64_t lda, const word* b, int64_t ldb, int64_t k, float* c, int64_t ldc,
                           int64_t vectors, const float* scale = nullptr) {
  for (int64_t tiles = (vectors + VECTORS - 1) / VECTORS; tiles > 0; tiles--) {
    int64_t width = (vectors + tiles - 1) / tiles;
    switch (width) {
      case 1: product_tile<T, 1, LAYOUT, START>(a, lda, b, ldb, k, c, ldc, scale); break;
      case 2: product_tile<T, 2, LAYOUT, START>(a, lda, b, ldb, k, c, ldc, scale); break;
      case 3: product_tile<T, 3, LAYOUT, START>(a, lda, b, ldb, k, c, ldc, scale); break;
      case 4: product_tile<T, 4, LAYOUT, START>(a, lda, b, ldb, k, c, ldc, scale); break;
    }
    b += width * LANES, c += width * LANES, vectors -= width;
  }
}

// As `product`, where b is packed in tiles of columns (`pack_transposed`) and c starts at column `from` of b; both
// `from` and `vectors * LANES` are multiples of LANES. k is the number of words in a whole column.
template <class T>
static inline void product_with_tiles(const word* a, int64_t lda, const word* b, int64_t from, int64_t k, float* c,
                                      int64_t ldc, int64_t vectors) {
  while (vectors > 0) {
    int64_t within = from % TILE, width = smaller((TILE - within) / LANES, vectors);
    product<T>(a, lda, b + (from - within) * k + within, TILE, k, c, ldc, width);
    c += width * LANES, from += width * LANES, vectors -= width;
  }
}

// Rows of x, `stride` apart and d values long, as they are: [row][d in words]; `rows` to `padded` become 0.
template <class T>
static inline void pack_rows(const T* x, int64_t stride, int64_t rows, int64_t padded, int64_t d, word* to) {
  int64_t words = d / PER_WORD<T>;
  for (int64_t i = 0; i < rows; i++) std::memcpy(to + i * words, x + i * stride, words * sizeof(word));
  std::memset(to + rows * words, 0, (padded - rows) * words * sizeof(word));
}

// Rows of x as the b of a product that sums over d: tiles of TILE rows, [tile][d in words][row in the tile].
template <class T>
static inline void pack_transposed(const T* x, int64_t stride, int64_t rows, int64_t padded, int64_t d, word* to) {
  int64_t words = d / PER_WORD<T>;
  for (int64_t start = 0; start < padded; start += TILE, to += TILE * words)
    for (int64_t i = 0; i < TILE; i++) {
      const T* row = x + (start + i) * stride;
      for (int64_t j = 0; j < words; j++) {
        word value = 0;
        if (start + i < rows) std::memcpy(&value, row + j * PER_WORD<T>, sizeof value);
        to[j * TILE + i] = value;
      }
    }
}

// Rows of x as the b of a product that sums over rows: [row in words][d].
template <class T>
static inline void pack_pairs(const T* x, int64_t stride, int64_t rows, int64_t padded, int64_t d, word* to) {
  if constexpr (PER_WORD<T> == 1) return pack_rows(x, stride, rows, padded, d, to);
  for (int64_t i = 0; i < padded; i += 2, to += d)
    for (int64_t j = 0; j < d; j++) {
      word first = i < rows ? x[i * stride + j] : 0, second = i + 1 < rows ? x[(i + 1) * stride + j] : 0;
      to[j] = first | second << 16;
    }
}
