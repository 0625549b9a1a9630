// One product of a few rows, and a packed matrix written out for products of many.
#include "row_product.h"

#include <memory>

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
      u16 word;
      std::memcpy(&word, words, sizeof word);
      for (int j = 0; j < per_word; j++) {
        int shift = four ? j % 4 * 8 + j / 4 * 4 : j * 8;
        f16 value = entries(w, (i16)((word >> shift) & ((1 << w.kind) - 1)), at);
        T* to = out + (i + j) * w.outputs + o;
        if (count == LANES)
          store(to, value);
        else
          store_part(to, value, count);
      }
    }
  }
}

constexpr int64_t ROWS_IN_CACHE = 64;  // that are multiplied by all of a matrix before the next are looked at

// As many values, not initialised, or none.
template <class T>
static std::unique_ptr<T[]> memory(bool wanted, int64_t count) {
  return std::unique_ptr<T[]>(wanted ? new T[count] : nullptr);
}

extern "C" {
// x [rows i] to y [rows o].
void row_product(const Matrix* w, const float* x, int64_t rows, float* y) {
  int64_t stride = padded(w->inputs), blocks = stride / BLOCK;
  const int wanted = forms(*w);
  auto values = memory<float>(wanted & FLOATS, rows * stride);
  auto high = memory<bf16>(wanted & PARTS, rows * stride), low = memory<bf16>(wanted & PARTS, rows * stride);
  auto exact = memory<Digits<DIGITS>>(wanted & EXACT, rows * blocks);
  auto rounded = memory<Digits<1>>(wanted & ROUNDED, rows * blocks);
  Rows in = {rows, w->inputs, stride, values.get(), high.get(), low.get(), exact.get(), rounded.get()};
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < rows * blocks; unit++) {
      int64_t row = unit / blocks, k = unit % blocks;
      const float* from = x + row * w->inputs;
      f16 halves[2] = {};
      for (int h = 0; h < 2; h++)
        if (k * BLOCK + h * LANES < w->inputs) halves[h] = load_to(from, k * BLOCK + h * LANES, w->inputs);
      prepare(in, row, k, halves[0], halves[1], wanted);
    }
    for (int64_t first = 0; first < rows; first += ROWS_IN_CACHE) {
      int64_t count = rows - first < ROWS_IN_CACHE ? rows - first : ROWS_IN_CACHE;
      Rows part = in.from(first, count);
#pragma omp for schedule(static)
      for (int64_t p = 0; p < panels(*w); p++) product<false>(*w, part, p, p + 1, y + first * w->outputs, w->outputs);
    }
  }
}

void unpack_columns_f32(const Matrix* w, float* out) { unpack_columns(*w, out); }
void unpack_columns_bf16(const Matrix* w, bf16* out) { unpack_columns(*w, out); }
}
