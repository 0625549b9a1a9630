// One product of a few rows, and a packed matrix written out for products of many.
#include "row_product.h"

#include <vector>

template <class T>
static void unpack_columns(const Matrix& w, T* out) {  // to [i o]: sixteen outputs are neighbours already
  bool four = w.kind == BITS4;
  int64_t per_word = 32 / w.kind, num_words = w.inputs / per_word, num_blocks = w.inputs / w.block;
#pragma omp parallel for schedule(static)
  for (int64_t p = 0; p < panels(w); p++) {
    const int32_t* words = (const int32_t*)w.values + p * num_words * LANES;
    int64_t o = p * LANES;
    int count = (int)(w.outputs - o < LANES ? w.outputs - o : LANES);
    for (int64_t i = 0; i < w.inputs; i += per_word, words += LANES) {
      int64_t at = (p * num_blocks + i / w.block) * LANES;
      f16 scale = w.half ? load_half((const uint16_t*)w.scales + at) : load((const float*)w.scales + at);
      u16 word;
      std::memcpy(&word, words, sizeof word);
      for (int j = 0; j < per_word; j++) {
        int shift = four ? j % 4 * 8 + j / 4 * 4 : j * 8;
        i16 number = (i16)((word >> shift) & ((1 << w.kind) - 1)) - (1 << (w.kind - 1));
        f16 value = __builtin_convertvector(number, f16) * scale;
        T* to = out + (i + j) * w.outputs + o;
        if (count == LANES)
          store(to, value);
        else
          store_part(to, value, count);
      }
    }
  }
}

extern "C" {
// x [rows i] to y [rows o].
void row_product(const Matrix* w, const float* x, int64_t rows, float* y) {
  int64_t stride = padded(w->inputs), blocks = stride / BLOCK;
  std::vector<float> values(rows * stride);
  std::vector<bf16> high(rows * stride), low(rows * stride);
  std::vector<Block> digits(rows * blocks);
  Rows in = {rows, w->inputs, stride, values.data(), high.data(), low.data(), digits.data()};
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < rows * blocks; unit++) {
      int64_t row = unit / blocks, k = unit % blocks;
      const float* from = x + row * w->inputs;
      f16 halves[2] = {};
      for (int h = 0; h < 2; h++)
        if (k * BLOCK + h * LANES < w->inputs) halves[h] = load_to(from, k * BLOCK + h * LANES, w->inputs);
      prepare(in, row, k, halves[0], halves[1], w->kind <= BITS8, w->kind == BFLOAT16);
    }
#pragma omp for schedule(static)
    for (int64_t p = 0; p < panels(*w); p++) product<false>(*w, in, p, p + 1, y, w->outputs);
  }
}

void unpack_columns_f32(const Matrix* w, float* out) { unpack_columns(*w, out); }
void unpack_columns_bf16(const Matrix* w, bf16* out) { unpack_columns(*w, out); }
}
