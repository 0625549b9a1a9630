// Inputs of products as whole numbers in digits of 8 bits, which processors multiply sixty-four at a time.
//
// With three digits (24 bits, in steps of 2^-23 of a block's largest) products lose nothing; with one they are those of
// rounded inputs (`rounded_activations` of ops/lowbit), for a third of the work.
#pragma once
#include "rows.h"

template <int D>
static inline void to_digits(f16 a, f16 b, Digits<D>* out) {
  typedef int8_t b16 __attribute__((vector_size(16)));
  constexpr float LARGEST = D == 1 ? 127 : 127 * 65536;  // well inside what digits from -128 to 127 hold
  f16 size = max(max(a, -a), max(b, -b));
  float most = largest(size);
  float inverse = most > 1e-30f ? LARGEST / most : 0.0f;
  out->scale = (most > 1e-30f ? most / LARGEST : 0.0f) + sum((a - a) + (b - b));  // NaN if one of them is no number
  i16 v[2];
  f16 parts[2] = {a * inverse, b * inverse};
  for (int h = 0; h < 2; h++) {
#ifdef __AVX512F__
    v[h] = (i16)_mm512_cvtps_epi32((__m512)parts[h]);
#else
    for (int j = 0; j < LANES; j++) v[h][j] = (int32_t)__builtin_rintf(parts[h][j]);
#endif
  }
  for (int d = 0; d < D; d++) {
    int32_t total = 0;
    for (int h = 0; h < 2; h++) {
      i16 digit = ((v[h] + 128) & 255) - 128;
      v[h] = (v[h] - digit) >> 8;
      b16 bytes = __builtin_convertvector(digit, b16);
      std::memcpy(out->digits[d] + h * LANES, &bytes, LANES);
      total += sum(digit);
    }
    for (int times = 0; times < 3; times++) out->start[times][d] = -total * (times == 0 ? 1 : times == 1 ? 8 : 128);
  }
}
