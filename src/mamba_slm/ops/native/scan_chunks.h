// What the scan of scan.cpp and its gradient share: products of small matrices, the decays of a chunk, its B and C.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>
#include <type_traits>

#include "simd.h"

constexpr int64_t Q = 64;           // positions per chunk
constexpr float VANISHED = -87.0f;  // exp of it is the smallest normal float32

struct Sizes {
  int64_t b, t, heads, p, groups, n, parts;  // parts: runs of a group's heads that are computed side by side
  int64_t x_row, x_step, dt_row, dt_step, b_row, b_step, c_row, c_step;  // strides of rows and positions
  int64_t chunks() const { return (t + Q - 1) / Q; }
};

// Zeros at the start of a cache line: vectors that lie across two lines take twice as long to load.
struct Floats {
  std::unique_ptr<float[]> memory;
  float* values;
  explicit Floats(int64_t count) : memory(new float[count + LANES]()) {
    values = memory.get() + (64 - reinterpret_cast<uintptr_t>(memory.get()) % 64) % 64 / sizeof(float);
  }
  float* data() const { return values; }
};

// The compiler would load it again for every multiplication, and loads are what a loop of products waits for.
static inline f16 in_register(f16 v) {
#ifdef __AVX512F__
  asm("" : "+v"(v));
#endif
  return v;
}

// use(acc) with acc[r][v] = sum over k of a[r * ai + k * ak] * b[k * bk + 16 v ...], four rows and 16 V columns.
template <int V, class Use>
static inline __attribute__((always_inline)) void four_rows(const float* a, int64_t ai, int64_t ak, const float* b,
                                                            int64_t bk, int64_t first, int64_t last, Use use) {
  f16 acc[4][V] = {};
  for (int64_t k = first; k < last; k++) {
    f16 row[V];
    for (int v = 0; v < V; v++) row[v] = in_register(load(b + k * bk + v * LANES));
    for (int r = 0; r < 4; r++) {
      const float factor = a[r * ai + k * ak];
      for (int v = 0; v < V; v++) acc[r][v] += factor * row[v];
    }
  }
  use(acc);
}

static inline f16 merge(f16 a, f16 b, i16 order) { return __builtin_shuffle(a, b, order); }

// [rows columns] to [columns rows], both multiples of 16.
static void transpose(const float* from, int64_t step, float* to, int64_t to_step, int64_t rows, int64_t columns) {
  const i16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  for (int64_t i = 0; i < rows; i += LANES) {
    for (int64_t j = 0; j < columns; j += LANES) {
      f16 block[LANES];
      for (int r = 0; r < LANES; r++) block[r] = load(from + (i + r) * step + j);
#pragma GCC unroll 4
      for (int width = 8; width; width /= 2) {  // swap the off-diagonal quarters of every block of 2 * width
        const i16 low = (lane & width) ? (lane - width) | 16 : lane, high = (lane & width) ? lane | 16 : lane + width;
#pragma GCC unroll 16
        for (int r = 0; r < LANES; r++) {
          if (r & width) continue;
          f16 above = block[r], below = block[r + width];
          block[r] = merge(above, below, low);
          block[r + width] = merge(above, below, high);
        }
      }
      for (int r = 0; r < LANES; r++) store(to + (j + r) * to_step + i, block[r]);
    }
  }
}

// What the decays of one head do in one chunk.
struct alignas(64) Decays {
  float a[Q], dt[Q];
  float before[Q];  // of the state before the chunk at each position: exp(a), or 0
  float behind[Q];  // of each position in the state behind the chunk: exp(a[end] - a), or 0
  int64_t first[Q];  // of the document of each position, within the chunk
  float carried;     // of the state before the chunk in the one behind it
  int64_t last_start, first_stop;  // where the last document begins, and where the first one ends

  // ids: of the chunk; starts: whether its first position begins a document. Missing positions have dt = 0.
  void read(const float* steps, int64_t stride, int64_t count, float A, const int64_t* ids, bool starts) {
    int64_t start = 0;
    bool fresh = starts;
    float total = 0;
    first_stop = Q;
    for (int64_t i = 0; i < Q; i++) {
      dt[i] = i < count ? steps[i * stride] : 0.0f;
      const float log_decay = dt[i] * A;
      const bool boundary = (i && i < count && ids && ids[i] != ids[i - 1]) || log_decay < VANISHED;
      if (boundary) {
        if (!fresh) first_stop = i;
        fresh = true, start = i, total = 0;
      } else {
        total += log_decay;
      }
      if (fresh && first_stop == Q) first_stop = 0;
      a[i] = total, first[i] = start, before[i] = fresh ? -INFINITY : total;
    }
    last_start = start;
    carried = fresh ? 0.0f : 1.0f;
    for (int64_t i = 0; i < Q; i += LANES) {
      f16 here = load(a + i);
      store(before + i, exp(load(before + i)));
      store(behind + i, exp(total - here));
    }
    for (int64_t i = 0; i < start; i++) behind[i] = 0;
    if (!fresh) carried = exp(splat(total))[0];
  }

  // L of row i at columns j ... j + 15.
  f16 between(int64_t i, int64_t j) const {
    const i16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const i16 column = lane + int32_t(j);
    f16 decay = exp(min(a[i] - load(a + j), splat(0)));
    return (column <= int32_t(i)) & (column >= int32_t(first[i])) ? decay : f16{};
  }
};

static void copy_rows(const float* from, int64_t step, int64_t rows, float* to, int64_t columns) {
  for (int64_t i = 0; i < rows; i++) std::memcpy(to + i * columns, from + i * step, columns * sizeof(float));
  std::fill(to + rows * columns, to + Q * columns, 0.0f);
}

// Memory of one thread, and what all heads of a group share in a chunk.
struct Chunk {
  const Sizes& s;
  int64_t start, rows;
  Floats B, C, Bt, Ct, products;
  bool starts = false;
  const int64_t* ids = nullptr;

  explicit Chunk(const Sizes& s) : s(s), B(Q * s.n), C(Q * s.n), Bt(Q * s.n), Ct(Q * s.n), products(Q * Q) {}

  void read(const float* from_B, const float* from_C, const int64_t* all_ids, int64_t number) {
    start = number * Q, rows = std::min(Q, s.t - start);
    copy_rows(from_B + start * s.b_step, s.b_step, rows, B.data(), s.n);
    copy_rows(from_C + start * s.c_step, s.c_step, rows, C.data(), s.n);
    transpose(B.data(), s.n, Bt.data(), Q, Q, s.n);
    for (int64_t i = 0; i < Q; i += 4)
      four_rows<4>(C.data() + i * s.n, s.n, 1, Bt.data(), Q, 0, s.n, [&](f16(&acc)[4][4]) {
        for (int r = 0; r < 4; r++)
          for (int v = 0; v < 4; v++) store(products.data() + (i + r) * Q + v * LANES, acc[r][v]);
      });
    ids = all_ids ? all_ids + start : nullptr;
    starts = ids && start && ids[0] != ids[-1];
  }
};

// S of a head, and L too where it is wanted. Columns behind a row's last block of 16 are 0.
static void decayed_products(const Chunk& chunk, const Decays& decays, float* S, float* L) {
  for (int64_t i = 0; i < Q; i++)
    for (int64_t j = 0; j < Q; j += LANES) {
      f16 between = j > i ? f16{} : decays.between(i, j);
      store(S + i * Q + j, between * load(chunk.products.data() + i * Q + j));
      if (L) store(L + i * Q + j, between);
    }
}

static void scale_rows(const float* from, const float* factors, float* to, int64_t columns) {
  for (int64_t i = 0; i < Q; i++)
    for (int64_t j = 0; j < columns; j += LANES) store(to + i * columns + j, factors[i] * load(from + i * columns + j));
}

// state [n p] = carried * state + rowsᵀ (factors x), factors [Q n], x [Q p], over positions first ... last.
template <int V>
static void move_on(float* state, float carried, const float* factors, const float* x, const Sizes& s, int64_t first,
                    int64_t last) {
  for (int64_t k = 0; k < s.n; k += 4)
    four_rows<V>(factors + k, 1, s.n, x, s.p, first, last, [&](f16(&acc)[4][V]) {
      for (int r = 0; r < 4; r++)
        for (int v = 0; v < V; v++) {
          float* at = state + (k + r) * s.p + v * LANES;
          store(at, carried ? carried * load(at) + acc[r][v] : acc[r][v]);
        }
    });
}
