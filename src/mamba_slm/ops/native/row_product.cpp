// One product of a few rows, and a packed matrix written out for products of many.
#include "row_product.h"

#include <memory>

constexpr int64_t PANELS_AT_ONCE = 8;  // so that whole lines of memory are written, once

// Panels `begin` … `end - 1`, transposed, to [i, outputs of these]: sixteen outputs are neighbours already.
template <class T>
static void unpack_columns(const Matrix& w, int64_t begin, int64_t end, T* out) {
  bool four = w.kind == BITS4;
  int64_t per_word = 32 / w.kind, num_words = w.inputs / per_word, num_blocks = w.inputs / w.block;
  int64_t first = begin * LANES, width = (w.outputs < end * LANES ? w.outputs : end * LANES) - first;
#pragma omp parallel for schedule(static)
  for (int64_t group = begin; group < end; group += PANELS_AT_ONCE)
    for (int64_t i = 0; i < w.inputs; i += per_word)
      for (int64_t p = group; p < end && p < group + PANELS_AT_ONCE; p++) {
        int64_t o = p * LANES - first, at = (p * num_blocks + i / w.block) * LANES;
        int count = (int)(width - o < LANES ? width - o : LANES);
        u16 word;
        std::memcpy(&word, (const int32_t*)w.values + (p * num_words + i / per_word) * LANES, sizeof word);
        for (int j = 0; j < per_word; j++) {
          int shift = four ? j % 4 * 8 + j / 4 * 4 : j * 8;
          f16 value = entries(w, (i16)((word >> shift) & ((1 << w.kind) - 1)), at);
          T* to = out + (i + j) * width + o;
          if (count == LANES)
            store(to, value);
          else
            store_part(to, value, count);
        }
      }
}

constexpr int64_t ROWS_IN_CACHE = 64;  // that are multiplied by all of a matrix before the next are looked at

// As many values, not initialised, or none.
template <class T>
static std::unique_ptr<T[]> memory(bool wanted, int64_t count) {
  return std::unique_ptr<T[]>(wanted ? new T[count] : nullptr);
}

// x [rows i] to y [rows o].
template <class T>
static void multiply(const Matrix& w, const T* x, int64_t rows, T* y) {
  int64_t stride = padded(w.inputs), blocks = stride / BLOCK;
  const int wanted = forms(w);
  auto values = memory<float>(wanted & FLOATS, rows * stride);
  auto high = memory<bf16>(wanted & PARTS, rows * stride), low = memory<bf16>(wanted & PARTS, rows * stride);
  auto exact = memory<Digits<DIGITS>>(wanted & EXACT, rows * blocks);
  auto rounded = memory<Digits<1>>(wanted & ROUNDED, rows * blocks);
  Rows in = {rows, w.inputs, stride, values.get(), high.get(), low.get(), exact.get(), rounded.get()};
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < rows * blocks; unit++) {
      int64_t row = unit / blocks, k = unit % blocks;
      const T* from = x + row * w.inputs;
      f16 halves[2] = {};
      for (int h = 0; h < 2; h++)
        if (k * BLOCK + h * LANES < w.inputs) halves[h] = load_to(from, k * BLOCK + h * LANES, w.inputs);
      prepare(in, row, k, halves[0], halves[1], wanted);
    }
    for (int64_t first = 0; first < rows; first += ROWS_IN_CACHE) {
      int64_t count = rows - first < ROWS_IN_CACHE ? rows - first : ROWS_IN_CACHE;
      Rows part = in.from(first, count);
#pragma omp for schedule(static)
      for (int64_t p = 0; p < panels(w); p++) {
        float tile[ROWS_IN_CACHE * LANES];
        int64_t o = p * LANES;
        int of_panel = (int)(w.outputs - o < LANES ? w.outputs - o : LANES);
        product<false>(w, part, p, p + 1, tile - o, LANES);
        for (int64_t row = 0; row < count; row++) {
          T* to = y + (first + row) * w.outputs + o;
          if (of_panel == LANES)
            store(to, load(tile + row * LANES));
          else
            store_part(to, load_part(tile + row * LANES, of_panel), of_panel);
        }
      }
    }
  }
}

extern "C" {
void row_product_f32(const Matrix* w, const float* x, int64_t rows, float* y) { multiply(*w, x, rows, y); }
void row_product_bf16(const Matrix* w, const bf16* x, int64_t rows, bf16* y) { multiply(*w, x, rows, y); }

void unpack_columns_f32(const Matrix* w, int64_t begin, int64_t end, float* out) {
  unpack_columns(*w, begin, end, out);
}
void unpack_columns_bf16(const Matrix* w, int64_t begin, int64_t end, bf16* out) {
  unpack_columns(*w, begin, end, out);
}
}
