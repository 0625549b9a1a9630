// Rows times a matrix in float32 or bfloat16, which is read once for all rows.
//
// With AVX512-BF16 an input is the sum of two bfloat16, 16 bits together; products are added in float32.
#pragma once
#include "rows.h"

// products[m * 4 + r] summed into out[m * 16 + r].
template <int M>
static inline void put_four(const f16* products, float* out) {
  f16 totals = sums(products);
  for (int m = 0; m < M; m++) std::memcpy(out + m * LANES, (const float*)&totals + 4 * m, 16);
}

// One row of a matrix times one row. Reading one stream per thread is twice as fast as reading four (docs/log.md).
static inline float one_output(const float* w, const Rows& x) {
  f16 sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * LANES <= x.inputs; i += 4 * LANES)
    for (int j = 0; j < 4; j++) sums[j] += load(w + i + j * LANES) * load(x.x + i + j * LANES);
  for (; i < x.inputs; i += LANES) sums[0] += load_to(w, i, x.inputs) * load(x.x + i);
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

static inline float one_output(const bf16* w, const Rows& x) {
  f16 sums[4] = {};
  int64_t i = 0;
#ifdef __AVX512BF16__
  for (; i + 2 * BLOCK <= x.inputs; i += 2 * BLOCK)
    for (int j = 0; j < 2; j++) {
      __m512bh weights = (__m512bh)_mm512_loadu_si512(w + i + j * BLOCK);
      __m512bh high = (__m512bh)_mm512_loadu_si512(x.high + i + j * BLOCK);
      __m512bh low = (__m512bh)_mm512_loadu_si512(x.low + i + j * BLOCK);
      sums[j] = (f16)_mm512_dpbf16_ps((__m512)sums[j], weights, high);
      sums[2 + j] = (f16)_mm512_dpbf16_ps((__m512)sums[2 + j], weights, low);
    }
#endif
  for (; i < x.inputs; i += LANES) sums[0] += load_to(w, i, x.inputs) * load(x.x + i);
  return sum((sums[0] + sums[2]) + (sums[1] + sums[3]));
}

// 256 bytes behind each other for every step of a product's loop, so that all of the next four rows of a matrix come as
// one stream while these four are multiplied.
static inline void fetch(const char*& next) {
  if (!next) return;
  for (int line = 0; line < 4; line++, next += 64) __builtin_prefetch(next);
}

// Four rows of a matrix times M rows: out[m * 16 + r]. `next` lies behind the four, or is null.
template <int M>
static inline void four_outputs(const float* const* w, const Rows& x, int64_t row, const char* next, float* out) {
  f16 products[16] = {};
  const float* in = x.x + row * x.stride;
  for (int64_t i = 0; i < x.inputs; i += LANES) {
    fetch(next);
    f16 inputs[M];
    for (int m = 0; m < M; m++) inputs[m] = load(in + m * x.stride + i);
    for (int r = 0; r < 4; r++) {
      f16 weights = load_to(w[r], i, x.inputs);
      for (int m = 0; m < M; m++) products[m * 4 + r] += weights * inputs[m];
    }
  }
  put_four<M>(products, out);
}

template <int M>
static inline void four_outputs(const bf16* const* w, const Rows& x, int64_t row, const char* next, float* out) {
  f16 products[16] = {};
  int64_t i = 0;
#ifdef __AVX512BF16__
  for (; i + BLOCK <= x.inputs; i += BLOCK) {
    fetch(next);
    __m512bh high[M], low[M];
    for (int m = 0; m < M; m++) {
      int64_t at = (row + m) * x.stride + i;
      high[m] = (__m512bh)_mm512_loadu_si512(x.high + at);
      low[m] = (__m512bh)_mm512_loadu_si512(x.low + at);
    }
    for (int r = 0; r < 4; r++) {
      __m512bh weights = (__m512bh)_mm512_loadu_si512(w[r] + i);
      for (int m = 0; m < M; m++) {
        __m512 s = _mm512_dpbf16_ps((__m512)products[m * 4 + r], weights, low[m]);
        products[m * 4 + r] = (f16)_mm512_dpbf16_ps(s, weights, high[m]);
      }
    }
  }
#endif
  for (; i < x.inputs; i += LANES)
    for (int r = 0; r < 4; r++) {
      f16 weights = load_to(w[r], i, x.inputs);
      for (int m = 0; m < M; m++) products[m * 4 + r] += weights * load(x.x + (row + m) * x.stride + i);
    }
  put_four<M>(products, out);
}

constexpr int64_t ROWS_AT_ONCE = 32;

template <bool ADD, class T>
static void plain_product(const Matrix& w, const Rows& x, int64_t begin, int64_t end, float* y, int64_t y_stride) {
  const T* values = (const T*)w.values;
  int64_t last = end * LANES < w.outputs ? end * LANES : w.outputs;
  if (x.rows == 1 && !x.alike) {
    for (int64_t o = begin * LANES; o < last; o++) {
      float value = one_output(values + o * w.inputs, x);
      y[o] = ADD ? y[o] + value : value;
    }
    return;
  }
  for (int64_t o = begin * LANES; o < last; o += LANES)
    for (int64_t first = 0; first < x.rows; first += ROWS_AT_ONCE) {
      int64_t count = last - o < LANES ? last - o : LANES;
      int64_t rows = x.rows - first < ROWS_AT_ONCE ? x.rows - first : ROWS_AT_ONCE;
      float tile[ROWS_AT_ONCE * LANES];
      for (int q = 0; q < count; q += 4) {
        const T* four[4];
        for (int r = 0; r < 4; r++) four[r] = values + (o + (q + r < count ? q + r : count - 1)) * w.inputs;
        const char* next = first == 0 ? (const char*)(values + (o + q + 4) * w.inputs) : nullptr;
        int64_t row = 0;
        for (; row + 4 <= rows; row += 4, next = nullptr)
          four_outputs<4>(four, x, first + row, next, tile + row * LANES + q);
        switch (rows - row) {
          case 3: four_outputs<3>(four, x, first + row, next, tile + row * LANES + q); break;
          case 2: four_outputs<2>(four, x, first + row, next, tile + row * LANES + q); break;
          case 1: four_outputs<1>(four, x, first + row, next, tile + row * LANES + q); break;
        }
      }
      for (int64_t row = 0; row < rows; row++) {
        float* to = y + (first + row) * y_stride + o;
        f16 value = load(tile + row * LANES);
        if (count == LANES)
          store(to, ADD ? load(to) + value : value);
        else
          store_part(to, ADD ? load_part(to, (int)count) + value : value, (int)count);
      }
    }
}
