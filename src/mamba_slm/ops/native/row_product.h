// A few rows of float32 times a matrix [o i] transposed, the matrix in float32, bfloat16, 8 or 4 bits (`ops/lowbit`).
// Each matrix is read once for all rows: sixteen outputs at a time, for up to four rows in registers.
//
// Bits with AVX-512 VNNI: the processor multiplies bytes and adds in int32, without rounding. So a block of 32 inputs
// becomes whole numbers of 24 bits and a scale, 2^-23 of the block's largest, in three digits of 8 bits. One
// instruction multiplies 64 weights by a digit; float arithmetic needs eight, and is not more exact.
// Elsewhere: float arithmetic on sixteen rows at once.
//
// bfloat16 with AVX512-BF16: an input is the sum of two bfloat16, 16 bits together; products are added in float32.
#pragma once
#include "simd.h"

enum Kind : int64_t { FLOAT32 = 32, BFLOAT16 = 16, BITS8 = 8, BITS4 = 4 };

struct Matrix {
  int64_t kind, outputs, inputs;
  const void* values;  // [o i], or words in panels of sixteen outputs
  const void* scales;  // [panels, i / block, 16] of bits
  int64_t block;       // inputs that share a scale
  int64_t half;        // whether scales are float16
};

constexpr int TILE = 4, BLOCK = 32, DIGITS = 3;
constexpr float LARGEST = 127 * 65536;  // well inside what three digits from -128 to 127 hold

struct Block {  // 32 inputs
  int8_t digits[DIGITS][BLOCK];
  int32_t start[2][DIGITS];  // -8 times the sum of each digit, and -128 times: weights are stored with that added
  float scale;
};

// Inputs of a product: x[row * stride + i], and what `prepare` made of them. Behind `inputs` the strides hold zeros.
struct Rows {
  int64_t rows, inputs, stride;
  float* x;
  bf16 *high, *low;
  Block* blocks;
};

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
static inline f16 load_scales(const float* p) { return load(p); }
static inline f16 load_scales(const uint16_t* p) { return load_half(p); }

static inline int32_t sum(i16 v) {
#ifdef __AVX512F__
  return _mm512_reduce_add_epi32((__m512i)v);
#else
  int32_t total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
#endif
}

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

// Inputs 32 k … 32 k + 31 of a row: as float32 and as the matrices that will read them want them.
static inline void prepare(const Rows& to, int64_t row, int64_t k, f16 a, f16 b, bool for_bits, bool for_bf16) {
  int64_t at = row * to.stride + k * BLOCK;
  store(to.x + at, a);
  store(to.x + at + LANES, b);
#ifdef __AVX512VNNI__
  if (for_bits) to_digits(a, b, to.blocks + at / BLOCK);
#endif
#ifdef __AVX512BF16__
  if (for_bf16) {
    f16 parts[2] = {a, b};
    for (int h = 0; h < 2; h++) {
      bf16* high = to.high + at + h * LANES;
      store(high, parts[h]);
      store(to.low + at + h * LANES, parts[h] - load(high));
    }
  }
#endif
  (void)for_bits, (void)for_bf16;
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

// Four rows of a matrix times M rows.
template <int M>
static inline void four_outputs(const float* const* w, const Rows& x, int64_t row, float out[M][4]) {
  f16 sums[4][M] = {};
  const float* in = x.x + row * x.stride;
  for (int64_t i = 0; i < x.inputs; i += LANES) {
    f16 inputs[M];
    for (int m = 0; m < M; m++) inputs[m] = load(in + m * x.stride + i);
    for (int r = 0; r < 4; r++) {
      f16 weights = load_to(w[r], i, x.inputs);
      for (int m = 0; m < M; m++) sums[r][m] += weights * inputs[m];
    }
  }
  for (int r = 0; r < 4; r++)
    for (int m = 0; m < M; m++) out[m][r] = sum(sums[r][m]);
}

template <int M>
static inline void four_outputs(const bf16* const* w, const Rows& x, int64_t row, float out[M][4]) {
  f16 sums[4][M] = {};
  int64_t i = 0;
#ifdef __AVX512BF16__
  for (; i + BLOCK <= x.inputs; i += BLOCK)
    for (int r = 0; r < 4; r++) {
      __m512bh weights = (__m512bh)_mm512_loadu_si512(w[r] + i);
      for (int m = 0; m < M; m++) {
        int64_t at = (row + m) * x.stride + i;
        __m512 s = (__m512)sums[r][m];
        s = _mm512_dpbf16_ps(s, weights, (__m512bh)_mm512_loadu_si512(x.low + at));
        sums[r][m] = (f16)_mm512_dpbf16_ps(s, weights, (__m512bh)_mm512_loadu_si512(x.high + at));
      }
    }
#endif
  for (; i < x.inputs; i += LANES)
    for (int r = 0; r < 4; r++) {
      f16 weights = load_to(w[r], i, x.inputs);
      for (int m = 0; m < M; m++) sums[r][m] += weights * load(x.x + (row + m) * x.stride + i);
    }
  for (int r = 0; r < 4; r++)
    for (int m = 0; m < M; m++) out[m][r] = sum(sums[r][m]);
}

template <int M, class T>
static inline void plain_panel(const Matrix& w, int64_t panel, const Rows& x, int64_t row, f16* out) {
  for (int q = 0; q < LANES; q += 4) {
    const T* rows[4];
    for (int r = 0; r < 4; r++) {
      int64_t o = panel * LANES + q + r;
      rows[r] = (const T*)w.values + (o < w.outputs ? o : w.outputs - 1) * w.inputs;
    }
    float four[M][4];
    four_outputs<M>(rows, x, row, four);
    for (int m = 0; m < M; m++) std::memcpy((float*)&out[m] + q, four[m], sizeof four[m]);
  }
}

template <int M>
static inline void panel(const Matrix& w, int64_t number, const Rows& x, int64_t row, f16* out) {
  switch (w.kind) {
    case FLOAT32: return plain_panel<M, float>(w, number, x, row, out);
    case BFLOAT16: return plain_panel<M, bf16>(w, number, x, row, out);
    case BITS8:
      return w.half ? packed_panel<M, false, uint16_t>(w, number, x, row, out)
                    : packed_panel<M, false, float>(w, number, x, row, out);
    default:
      return w.half ? packed_panel<M, true, uint16_t>(w, number, x, row, out)
                    : packed_panel<M, true, float>(w, number, x, row, out);
  }
}

static inline int64_t panels(const Matrix& w) { return (w.outputs + LANES - 1) / LANES; }

// Outputs of panels `begin` … `end - 1`: y[row * y_stride + o] becomes them, or grows by them.
template <bool ADD>
static void product(const Matrix& w, const Rows& x, int64_t begin, int64_t end, float* y, int64_t y_stride) {
  for (int64_t p = begin; p < end; p++) {
    int64_t o = p * LANES;
    int count = (int)(w.outputs - o < LANES ? w.outputs - o : LANES);
    for (int64_t row = 0; row < x.rows; row += TILE) {
      f16 out[TILE];
      int64_t left = x.rows - row;
      int m = left < TILE ? (int)left : TILE;
      switch (m) {
        case 1: panel<1>(w, p, x, row, out); break;
        case 2: panel<2>(w, p, x, row, out); break;
        case 3: panel<3>(w, p, x, row, out); break;
        default: panel<4>(w, p, x, row, out);
      }
      for (int j = 0; j < m; j++) {
        float* to = y + (row + j) * y_stride + o;
        if (count == LANES)
          store(to, ADD ? load(to) + out[j] : out[j]);
        else
          store_part(to, ADD ? load_part(to, count) + out[j] : out[j], count);
      }
    }
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
      int32_t number = (int32_t)(words[i / per_word * LANES] >> shift & ((1 << w.kind) - 1)) - (1 << (w.kind - 1));
      int64_t at = scales + i / w.block * LANES;
      f16 scale = w.half ? load_half((const uint16_t*)w.scales + at) : load((const float*)w.scales + at);
      out[i] = number * scale[lane];
    }
  }
}
