// A few rows of float32 as the inputs of a product, and the matrices that they are multiplied by.
#pragma once
#include "simd.h"

enum Kind : int64_t { FLOAT32 = 32, BFLOAT16 = 16, BITS8 = 8, BITS4 = 4 };

struct Matrix {
  int64_t kind, outputs, inputs;
  const void* values;    // [o i], or words of codes in panels of sixteen outputs
  const void* scales;    // [panels, i / block, 16] of bits
  const uint8_t* zeros;  // zero points, as the scales; null: 2^(bits - 1) everywhere
  const float* table;    // sixteen values that codes of 4 bits stand for; null: whole numbers
  int64_t block;         // inputs that share a scale
  int64_t half;          // whether scales are float16
  int64_t rounds;        // whether inputs are rounded to 8 bits, 32 at a time
};

constexpr int BLOCK = 32, DIGITS = 3;

// 32 inputs as whole numbers of D digits of 8 bits and a scale.
template <int D>
struct Digits {
  int8_t digits[D][BLOCK];
  int32_t start[3][D];  // the sum of each digit times -1, -8 and -128: what codes are larger than their numbers
  float scale;
};

// Inputs of a product as its matrices want them: x[row * stride + i], that in two bfloat16 parts, in digits, rounded to
// one digit. Behind `inputs` the strides hold zeros.
struct Rows {
  int64_t rows, inputs, stride;
  float* x;
  bf16 *high, *low;
  Digits<DIGITS>* exact;
  Digits<1>* rounded;
  bool alike = false;  // whether a row's outputs must be the same to the last bit whatever other rows there are

  Rows from(int64_t first, int64_t count) const {
    int64_t at = first * stride, block = at / BLOCK;
    return {count, inputs, stride, x + at, high + at, low + at, exact + block, rounded + block, alike};
  }
};

enum Forms { FLOATS = 1, PARTS = 2, EXACT = 4, ROUNDED = 8 };

// Forms of its inputs that a matrix reads.
static inline int forms(const Matrix& w) {
#ifdef __AVX512BF16__
  if (w.kind == BFLOAT16) return FLOATS | PARTS;
#endif
  if (w.kind > BITS8 || w.table) return FLOATS;
  if (w.rounds) return ROUNDED;
#ifdef __AVX512VNNI__
  if (w.block % BLOCK == 0) return EXACT;
#endif
  return FLOATS;
}

static inline int64_t padded(int64_t n) { return (n + BLOCK - 1) / BLOCK * BLOCK; }

static inline f16 load_to(const float* p, int64_t i, int64_t n) {  // p[i … i + 15], zeros from n on
  return i + LANES <= n ? load(p + i) : load_part(p + i, (int)(n - i));
}
static inline f16 load_to(const bf16* p, int64_t i, int64_t n) {
  return i + LANES <= n ? load(p + i) : load_part(p + i, (int)(n - i));
}

static inline f16 load_half(const uint16_t* p) {  // float16, finite
#ifdef __AVX512F__
  return (f16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#else
  h16 half;
  std::memcpy(&half, p, sizeof half);
  u16 bits = __builtin_convertvector(half, u16);
  u16 magnitude = (bits & 0x7fff) << 13, sign = (bits & 0x8000) << 16;
  return (f16)((u16)((f16)magnitude * 0x1p112f) | sign);
#endif
}
static inline i16 load_zeros(const uint8_t* p) {
  typedef uint8_t b16 __attribute__((vector_size(16)));
  b16 bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, i16);
}

// table[lowest four bits of an index].
static inline f16 look_up(f16 table, i16 index) {
#ifdef __AVX512F__
  return (f16)_mm512_permutexvar_ps((__m512i)index, (__m512)table);
#else
  return __builtin_shuffle(table, index & 15);
#endif
}

static inline f16 load_scales(const Matrix& w, int64_t at) {
  return w.half ? load_half((const uint16_t*)w.scales + at) : load((const float*)w.scales + at);
}

// What sixteen codes of a packed matrix stand for; `at` is the place of their scales.
static inline f16 entries(const Matrix& w, i16 codes, int64_t at) {
  f16 scale = load_scales(w, at);
  if (w.table) return look_up(load(w.table), codes) * scale;
  if (!w.zeros) return __builtin_convertvector(codes - (1 << (w.kind - 1)), f16) * scale;
  return __builtin_convertvector(codes - load_zeros(w.zeros + at), f16) * scale;
}

static inline int32_t sum(i16 v) {
#ifdef __AVX512F__
  return _mm512_reduce_add_epi32((__m512i)v);
#else
  int32_t total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
#endif
}

static inline int64_t panels(const Matrix& w) { return (w.outputs + LANES - 1) / LANES; }

// The sums of sixteen vectors as one vector.
static inline f16 sums(const f16* v) {
  f16 a[8], b[4], c[2];
  const i16 even1 = {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30};
  const i16 even2 = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29};
  const i16 even4 = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27};
  const i16 even8 = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23};
  auto add = [](f16 x, f16 y, i16 even, int distance) {
    return __builtin_shuffle(x, y, even) + __builtin_shuffle(x, y, even + distance);
  };
  for (int i = 0; i < 8; i++) a[i] = add(v[2 * i], v[2 * i + 1], even1, 1);
  for (int i = 0; i < 4; i++) b[i] = add(a[2 * i], a[2 * i + 1], even2, 2);
  for (int i = 0; i < 2; i++) c[i] = add(b[2 * i], b[2 * i + 1], even4, 4);
  return add(c[0], c[1], even8, 8);
}
