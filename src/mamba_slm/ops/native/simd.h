// Sixteen float32 values at a time, in GCC's vector extension: any processor, with the instructions of the best ones.
#pragma once
#include <cstdint>
#include <cstring>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef float f16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));
typedef uint32_t u16 __attribute__((vector_size(64)));
typedef uint16_t h16 __attribute__((vector_size(32)));  // sixteen bfloat16
typedef uint16_t bf16;
constexpr int LANES = 16;

static inline f16 splat(float x) { return f16{} + x; }

static inline f16 load(const float* p) {
  f16 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
static inline void store(float* p, f16 v) { std::memcpy(p, &v, sizeof v); }

static inline f16 load(const bf16* p) {
  h16 half;
  std::memcpy(&half, p, sizeof half);
  u16 bits = __builtin_convertvector(half, u16) << 16;
  return (f16)bits;
}

// Round to the nearest bfloat16, ties to even, as PyTorch does; NaN stays NaN.
static inline h16 to_bf16(f16 v) {
#ifdef __AVX512BF16__
  return (h16)_mm512_cvtneps_pbh((__m512)v);
#else
  u16 bits = (u16)v;
  u16 rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  i16 is_nan = v != v;
  return __builtin_convertvector(is_nan ? (u16{} + 0x7fc0) : rounded, h16);
#endif
}
static inline void store(bf16* p, f16 v) {
  h16 half = to_bf16(v);
  std::memcpy(p, &half, sizeof half);
}

// The first `count` values of a short end; the others are 0, and are not stored.
template <class T>
static inline f16 load_part(const T* p, int count) {
  T whole[LANES] = {};
  std::memcpy(whole, p, count * sizeof(T));
  return load(whole);
}
template <class T>
static inline void store_part(T* p, f16 v, int count) {
  T whole[LANES];
  store(whole, v);
  std::memcpy(p, whole, count * sizeof(T));
}

static inline f16 max(f16 a, f16 b) { return a > b ? a : b; }
static inline f16 min(f16 a, f16 b) { return a < b ? a : b; }

static inline float sum(f16 v) {
#ifdef __AVX512F__
  return _mm512_reduce_add_ps((__m512)v);
#else
  float total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
#endif
}
static inline float largest(f16 v) {
#ifdef __AVX512F__
  return _mm512_reduce_max_ps((__m512)v);
#else
  float found = v[0];
  for (int i = 1; i < LANES; i++) found = v[i] > found ? v[i] : found;
  return found;
#endif
}

// exp to about 2 ulp for x <= 88.3; 0 below -87.3, where the result is no normal number, also for -inf. NaN gives NaN.
// 2^(k + r), k an integer, |r| <= 1/2: a polynomial of degree 6 for e^(r ln 2) (Cephes' expf), k into the exponent.
static inline f16 exp(f16 x) {
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  f16 k = (x * 1.44269504088896341f + shift) - shift;
  f16 r = x - k * 0.693359375f + k * 2.12194440e-4f;
  f16 p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  f16 e = p * (r * r) + r + 1.0f;
  i16 bits = (__builtin_convertvector(k, i16) + 127) << 23;
  f16 result = e * (f16)bits;
  result = x < -87.3f ? splat(0) : result;
  return x == x ? result : x;
}

static inline f16 sigmoid(f16 x) { return 1.0f / (1.0f + exp(min(max(-x, splat(-88.0f)), splat(88.0f)))); }
