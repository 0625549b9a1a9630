// A few rows of float32 times a matrix [o i] transposed, the matrix in float32, bfloat16, 8 or 4 bits.
#pragma once
#include "packed_rows.h"
#include "plain_rows.h"

// Inputs 32 k … 32 k + 31 of a row in the forms that the matrices which read them want.
static inline void prepare(const Rows& to, int64_t row, int64_t k, f16 a, f16 b, int wanted) {
  int64_t at = row * to.stride + k * BLOCK;
  if (wanted & FLOATS) {
    store(to.x + at, a);
    store(to.x + at + LANES, b);
  }
  if (wanted & EXACT) to_digits(a, b, to.exact + at / BLOCK);
  if (wanted & ROUNDED) to_digits(a, b, to.rounded + at / BLOCK);
#ifdef __AVX512BF16__
  if (wanted & PARTS) {
    f16 parts[2] = {a, b};
    for (int h = 0; h < 2; h++) {
      bf16* high = to.high + at + h * LANES;
      store(high, parts[h]);
      store(to.low + at + h * LANES, parts[h] - load(high));
    }
  }
#endif
}

// Outputs of panels `begin` … `end - 1`: y[row * y_stride + o] becomes them, or grows by them.
template <bool ADD>
static void product(const Matrix& w, const Rows& x, int64_t begin, int64_t end, float* y, int64_t y_stride) {
  switch (w.kind) {
    case FLOAT32: return plain_product<ADD, float>(w, x, begin, end, y, y_stride);
    case BFLOAT16: return plain_product<ADD, bf16>(w, x, begin, end, y, y_stride);
    case BITS8: return packed_product<ADD, false>(w, x, begin, end, y, y_stride);
    default: return packed_product<ADD, true>(w, x, begin, end, y, y_stride);
  }
}

// Row `o` of the matrix as float32.
static inline void matrix_row(const Matrix& w, int64_t o, float* out) {
  if (w.kind == FLOAT32) {
    std::memcpy(out, (const float*)w.values + o * w.inputs, w.inputs * sizeof(float));
  } else if (w.kind == BFLOAT16) {
    const bf16* row = (const bf16*)w.values + o * w.inputs;
    for (int64_t i = 0; i < w.inputs; i++) {
      uint32_t bits = (uint32_t)row[i] << 16;
      std::memcpy(out + i, &bits, 4);
    }
  } else {
    bool four = w.kind == BITS4;
    int64_t per_word = 32 / w.kind, lane = o % LANES, from = o / LANES * (w.inputs / per_word);
    const uint32_t* words = (const uint32_t*)w.values + from * LANES + lane;
    int64_t scales = o / LANES * (w.inputs / w.block) * LANES;
    for (int64_t i = 0; i < w.inputs; i++) {
      int64_t j = i % per_word, shift = four ? j % 4 * 8 + j / 4 * 4 : j * 8;
      int32_t code = (int32_t)(words[i / per_word * LANES] >> shift & ((1 << w.kind) - 1));
      out[i] = entries(w, i16{} + code, scales + i / w.block * LANES)[lane];
    }
  }
}
