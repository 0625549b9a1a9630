// Rows times a matrix of 8 or 4 bits (`ops/lowbit`), sixteen outputs at a time, for up to four rows in registers.
//
// With AVX-512 VNNI the processor multiplies bytes and adds in int32, without rounding. So a block of 32 inputs
// becomes whole numbers of 24 bits and a scale, 2^-23 of the block's largest, in three digits of 8 bits. One
// instruction multiplies 64 weights by a digit; float arithmetic needs eight, and is not more exact.
// Elsewhere: float arithmetic on sixteen rows at once.
#pragma once
#include "rows.h"

// Digits of 32 numbers.
static inline void to_digits(f16 a, f16 b, Block* out) {
  typedef int8_t b16 __attribute__((vector_size(16)));
  f16 size = max(max(a, -a), max(b, -b));
  float most = largest(size);
  float inverse = most > 1e-30f ? LARGEST / most : 0.0f;
  out->scale = (most > 1e-30f ? most / LARGEST : 0.0f) + sum((a - a) + (b - b));  // NaN if one of them is no number
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  i16 v[2];
  f16 parts[2] = {a * inverse, b * inverse};
  for (int h = 0; h < 2; h++) {
#ifdef __AVX512F__
    v[h] = (i16)_mm512_cvtps_epi32((__m512)parts[h]);
#else
    v[h] = __builtin_convertvector((parts[h] + shift) - shift, i16);
#endif
  }
  for (int d = 0; d < DIGITS; d++) {
    int32_t total = 0;
    for (int h = 0; h < 2; h++) {
      i16 digit = ((v[h] + 128) & 255) - 128;
      v[h] = (v[h] - digit) >> 8;
      b16 bytes = __builtin_convertvector(digit, b16);
      std::memcpy(out->digits[d] + h * LANES, &bytes, LANES);
      total += sum(digit);
    }
    out->start[0][d] = -8 * total;
    out->start[1][d] = -128 * total;
  }
  (void)shift;
}

#ifdef __AVX512VNNI__
template <int M, bool FOUR, class S>
static inline void panel_by_digits(const int32_t* words, const S* scales, int64_t inputs, int64_t block,
                                   const Block* x, int64_t x_stride, f16* out) {
  f16 total[M] = {};
  const __m512i mask = _mm512_set1_epi8(15);
  int64_t per_scale = block / BLOCK;
  for (int64_t k = 0; k < inputs / BLOCK; k++) {
    __m512i sums[M][DIGITS];
    const Block* b[M];
    for (int m = 0; m < M; m++) {
      b[m] = x + m * x_stride + k;
      for (int d = 0; d < DIGITS; d++) sums[m][d] = _mm512_set1_epi32(b[m]->start[!FOUR][d]);
    }
    auto multiply = [&](__m512i w, int j) {
      for (int m = 0; m < M; m++)
        for (int d = 0; d < DIGITS; d++) {
          int32_t four;
          std::memcpy(&four, b[m]->digits[d] + 4 * j, 4);
          sums[m][d] = _mm512_dpbusd_epi32(sums[m][d], w, _mm512_set1_epi32(four));
        }
    };
    if (FOUR) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++, words += LANES) {
        __m512i w = _mm512_loadu_si512(words);
        multiply(_mm512_and_si512(w, mask), 2 * j);
        multiply(_mm512_and_si512(_mm512_srli_epi32(w, 4), mask), 2 * j + 1);
      }
    } else {
#pragma GCC unroll 8
      for (int j = 0; j < 8; j++, words += LANES) multiply(_mm512_loadu_si512(words), j);
    }
    f16 scale = load_scales(scales + k / per_scale * LANES);
    for (int m = 0; m < M; m++) {
      f16 value = (f16)_mm512_cvtepi32_ps(sums[m][0]) + (f16)_mm512_cvtepi32_ps(sums[m][1]) * 256.0f +
                  (f16)_mm512_cvtepi32_ps(sums[m][2]) * 65536.0f;
      total[m] += value * (scale * b[m]->scale);
    }
  }
  for (int m = 0; m < M; m++) out[m] = total[m];
}
#endif

template <int M, bool FOUR, class S>
static inline void panel_by_floats(const int32_t* words, const S* scales, int64_t inputs, int64_t block,
                                   const float* x, int64_t x_stride, f16* out) {
  constexpr int PER_WORD = FOUR ? 8 : 4, BITS = FOUR ? 4 : 8;
  f16 total[M] = {};
  for (int64_t first = 0; first < inputs; first += block, scales += LANES) {
    f16 sums[M] = {};
    for (int64_t i = first; i < first + block; i += PER_WORD, words += LANES) {
      u16 w;
      std::memcpy(&w, words, sizeof w);
      for (int j = 0; j < PER_WORD; j++) {
        int shift = FOUR ? (j % 4) * 8 + j / 4 * 4 : j * 8;
        f16 value = __builtin_convertvector((i16)((w >> shift) & ((1 << BITS) - 1)) - (1 << (BITS - 1)), f16);
        for (int m = 0; m < M; m++) sums[m] += value * x[m * x_stride + i + j];
      }
    }
    f16 scale = load_scales(scales);
    for (int m = 0; m < M; m++) total[m] += sums[m] * scale;
  }
  for (int m = 0; m < M; m++) out[m] = total[m];
}

template <int M, bool FOUR, class S>
static inline void packed_panel(const Matrix& w, int64_t panel, const Rows& x, int64_t row, f16* out) {
  const int32_t* words = (const int32_t*)w.values + panel * (w.inputs * (FOUR ? 4 : 8) / 32) * LANES;
  const S* scales = (const S*)w.scales + panel * (w.inputs / w.block) * LANES;
#ifdef __AVX512VNNI__
  if (w.block % BLOCK == 0) {
    int64_t stride = x.stride / BLOCK;
    return panel_by_digits<M, FOUR>(words, scales, w.inputs, w.block, x.blocks + row * stride, stride, out);
  }
#endif
  panel_by_floats<M, FOUR>(words, scales, w.inputs, w.block, x.x + row * x.stride, x.stride, out);
}

template <bool ADD, int M, bool FOUR, class S>
static inline void put_panel(const Matrix& w, int64_t panel, const Rows& x, int64_t row, float* y, int64_t y_stride) {
  f16 out[M];
  packed_panel<M, FOUR, S>(w, panel, x, row, out);
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

template <bool ADD, bool FOUR, class S>
static void packed_product(const Matrix& w, const Rows& x, int64_t begin, int64_t end, float* y, int64_t y_stride) {
  for (int64_t p = begin; p < end; p++) {
    int64_t row = 0;
    for (; row + 4 <= x.rows; row += 4) put_panel<ADD, 4, FOUR, S>(w, p, x, row, y, y_stride);
    switch (x.rows - row) {
      case 3: put_panel<ADD, 3, FOUR, S>(w, p, x, row, y, y_stride); break;
      case 2: put_panel<ADD, 2, FOUR, S>(w, p, x, row, y, y_stride); break;
      case 1: put_panel<ADD, 1, FOUR, S>(w, p, x, row, y, y_stride); break;
    }
  }
}
