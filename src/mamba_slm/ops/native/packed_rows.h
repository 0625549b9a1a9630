// Rows times a matrix of 8 or 4 bits (`ops/lowbit`), sixteen outputs at a time, for a few rows in registers.
//
// Whole numbers: with AVX-512 VNNI the processor multiplies bytes and adds in int32, without rounding, so inputs come
// in digits (digits.h). One instruction multiplies 64 weights by a digit; float arithmetic needs eight, and is not more
// exact. Elsewhere, and for a table of sixteen values: float arithmetic on sixteen rows at once.
#pragma once
#include "digits.h"

#ifdef __AVX512VNNI__
template <int M, bool FOUR, int D>
static inline void panel_by_digits(const Matrix& w, int64_t panel, const Digits<D>* x, int64_t x_stride, f16* out) {
  f16 total[M] = {};
  const __m512i mask = _mm512_set1_epi8(15);
  const int32_t* words = (const int32_t*)w.values + panel * (w.inputs * (FOUR ? 4 : 8) / 32) * LANES;
  int64_t blocks = w.inputs / w.block, per_scale = w.block / BLOCK, at = panel * blocks * LANES;
  const int start = w.zeros ? 0 : FOUR ? 1 : 2;
  for (int64_t last = at + blocks * LANES; at < last; at += LANES) {
    f16 scale = load_scales(w, at);
    for (int64_t k = 0; k < per_scale; k++, x++) {
      __m512i sums[M][D];
      for (int m = 0; m < M; m++)
        for (int d = 0; d < D; d++) sums[m][d] = _mm512_set1_epi32(x[m * x_stride].start[start][d]);
      if (w.zeros) {
        __m512i zeros = (__m512i)load_zeros(w.zeros + at);
        for (int m = 0; m < M; m++)
          for (int d = 0; d < D; d++) sums[m][d] = _mm512_mullo_epi32(sums[m][d], zeros);
      }
      auto multiply = [&](__m512i codes, int j) {
        for (int m = 0; m < M; m++)
          for (int d = 0; d < D; d++) {
            int32_t four;
            std::memcpy(&four, x[m * x_stride].digits[d] + 4 * j, 4);
            sums[m][d] = _mm512_dpbusd_epi32(sums[m][d], codes, _mm512_set1_epi32(four));
          }
      };
      if (FOUR) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++, words += LANES) {
          __m512i codes = _mm512_loadu_si512(words);
          multiply(_mm512_and_si512(codes, mask), 2 * j);
          multiply(_mm512_and_si512(_mm512_srli_epi32(codes, 4), mask), 2 * j + 1);
        }
      } else {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++, words += LANES) multiply(_mm512_loadu_si512(words), j);
      }
      for (int m = 0; m < M; m++) {
        f16 value = (f16)_mm512_cvtepi32_ps(sums[m][0]);
        if constexpr (D == 3)
          value += (f16)_mm512_cvtepi32_ps(sums[m][1]) * 256.0f + (f16)_mm512_cvtepi32_ps(sums[m][2]) * 65536.0f;
        total[m] += value * (scale * x[m * x_stride].scale);
      }
    }
  }
  for (int m = 0; m < M; m++) out[m] = total[m];
}
#endif

// `input(m, i)` gives inputs; codes become whole numbers around their zero points, or values of the table.
template <int M, bool FOUR, bool TABLE, class Input>
static inline void panel_by_floats(const Matrix& w, int64_t panel, Input&& input, f16* out) {
  constexpr int PER_WORD = FOUR ? 8 : 4, BITS = FOUR ? 4 : 8, CHAINS = M == 1 ? 4 : M == 2 ? 2 : 1;
  f16 total[M] = {}, table = TABLE ? load(w.table) : f16{};
  const int32_t* words = (const int32_t*)w.values + panel * (w.inputs / PER_WORD) * LANES;
  int64_t at = panel * (w.inputs / w.block) * LANES;
  for (int64_t first = 0; first < w.inputs; first += w.block, at += LANES) {
    f16 sums[M][CHAINS] = {};  // each waits for itself only
    i16 zeros = w.zeros ? load_zeros(w.zeros + at) : i16{} + (1 << (BITS - 1));
    for (int64_t i = first; i < first + w.block; i += PER_WORD, words += LANES) {
      u16 codes;
      std::memcpy(&codes, words, sizeof codes);
#pragma GCC unroll 8
      for (int j = 0; j < PER_WORD; j++) {
        i16 code = (i16)(codes >> (FOUR ? (j % 4) * 8 + j / 4 * 4 : j * 8));
        f16 value = TABLE ? look_up(table, code) : __builtin_convertvector((code & ((1 << BITS) - 1)) - zeros, f16);
        for (int m = 0; m < M; m++) sums[m][j % CHAINS] += value * input(m, i + j);
      }
    }
    f16 scale = load_scales(w, at);
    for (int m = 0; m < M; m++) {
      for (int c = 1; c < CHAINS; c++) sums[m][0] += sums[m][c];
      total[m] += sums[m][0] * scale;
    }
  }
  for (int m = 0; m < M; m++) out[m] = total[m];
}

template <int M, bool FOUR>
static inline void packed_panel(const Matrix& w, int64_t panel, const Rows& x, int64_t row, f16* out) {
  int64_t stride = x.stride / BLOCK;
  const Digits<1>* rounded = x.rounded + row * stride;
  const float* floats = x.x + row * x.stride;
  auto plain = [&](int m, int64_t i) { return floats[m * x.stride + i]; };
#ifdef __AVX512VNNI__
  if (!w.table && w.block % BLOCK == 0) {
    if (w.rounds) return panel_by_digits<M, FOUR>(w, panel, rounded, stride, out);
    if constexpr (M <= 4) return panel_by_digits<M, FOUR>(w, panel, x.exact + row * stride, stride, out);
  }
#endif
  if constexpr (M <= 4) {
    if (FOUR && w.table) return panel_by_floats<M, FOUR, FOUR>(w, panel, plain, out);
    if (!w.rounds) return panel_by_floats<M, FOUR, false>(w, panel, plain, out);
    auto in_8_bits = [&](int m, int64_t i) {
      const Digits<1>& block = rounded[m * stride + i / BLOCK];
      return block.digits[0][i % BLOCK] * block.scale;
    };
    panel_by_floats<M, FOUR, false>(w, panel, in_8_bits, out);
  }
}

template <bool ADD, int M, bool FOUR>
static inline void put_panel(const Matrix& w, int64_t panel, const Rows& x, int64_t row, float* y, int64_t y_stride) {
  f16 out[M];
  packed_panel<M, FOUR>(w, panel, x, row, out);
  int64_t o = panel * LANES;
  int count = (int)(w.outputs - o < LANES ? w.outputs - o : LANES);
  for (int m = 0; m < M; m++) {
    float* to = y + (row + m) * y_stride + o;
    if (count == LANES)
      store(to, ADD ? load(to) + out[m] : out[m]);
    else
      store_part(to, ADD ? load_part(to, count) + out[m] : out[m], count);
  }
}

template <bool ADD, bool FOUR>
static void packed_product(const Matrix& w, const Rows& x, int64_t begin, int64_t end, float* y, int64_t y_stride) {
#ifdef __AVX512VNNI__
  const bool eight = w.rounds && w.block % BLOCK == 0;
#else
  const bool eight = false;
#endif
  for (int64_t p = begin; p < end; p++) {
    int64_t row = 0;
    if (x.alike)  // sums of several rows at once are made in another order
      for (; row < x.rows; row++) put_panel<ADD, 1, FOUR>(w, p, x, row, y, y_stride);
    if (eight)
      for (; row + 8 <= x.rows; row += 8) put_panel<ADD, 8, FOUR>(w, p, x, row, y, y_stride);
    for (; row + 4 <= x.rows; row += 4) put_panel<ADD, 4, FOUR>(w, p, x, row, y, y_stride);
    switch (x.rows - row) {
      case 3: put_panel<ADD, 3, FOUR>(w, p, x, row, y, y_stride); break;
      case 2: put_panel<ADD, 2, FOUR>(w, p, x, row, y, y_stride); break;
      case 1: put_panel<ADD, 1, FOUR>(w, p, x, row, y, y_stride); break;
    }
  }
}
