// silu(causal depthwise convolution), and its gradient. x is [b t c] with any strides of rows, c a multiple of 16;
// weight is [k c], tap by tap; y is float32. Without ids every earlier input counts; with ids [b t] those of the same
// document. What lies before the start is the window [b k-1 c], or zero.
#include <algorithm>
#include <vector>

#include "simd.h"

constexpr int MOST_TAPS = 8, ROWS = 64, COLUMNS = 128;

struct Shape {
  int64_t b, t, c, taps, row, step;  // row, step: strides of x
};

// Which earlier inputs output i of a row reads: null, or where they are. A tap that reads the window is in `before`.
template <class T>
struct Taps {
  const T* inputs[MOST_TAPS];
  const float* before[MOST_TAPS];

  Taps(const T* x, const float* window, const int64_t* ids, const Shape& s, int64_t i) {
    for (int64_t back = 0; back < s.taps; back++) {
      const bool same = !ids || ids[std::max<int64_t>(i - back, 0)] == ids[i];
      inputs[back] = same && i >= back ? x + (i - back) * s.step : nullptr;
      before[back] = same && i < back && window ? window + (s.taps - 1 + i - back) * s.c : nullptr;
    }
  }
  f16 at(int64_t back, int64_t column) const {
    if (inputs[back]) return load(inputs[back] + column);
    return before[back] ? load(before[back] + column) : f16{};
  }
};

template <class T>
static inline f16 convolved(const Taps<T>& from, const float* weight, const float* bias, const Shape& s, int64_t column) {
  f16 y = load(bias + column);
  for (int64_t back = s.taps - 1; back >= 0; back--)
    y += load(weight + (s.taps - 1 - back) * s.c + column) * from.at(back, column);
  return y;
}

template <class T>
static void forward(const T* x, const float* window, const int64_t* ids, const float* weight, const float* bias, float* y,
                    const Shape& s) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < s.b * s.t; row++) {
    const int64_t b = row / s.t, i = row % s.t;
    const Taps<T> from(x + b * s.row, window ? window + b * (s.taps - 1) * s.c : nullptr, ids ? ids + b * s.t : nullptr,
                       s, i);
    for (int64_t column = 0; column < s.c; column += LANES) {
      f16 v = convolved(from, weight, bias, s, column);
      store(y + row * s.c + column, v * sigmoid(v));
    }
  }
}

// One tile of rows [start, stop) and columns [left, right): grad_x there, and what it adds to sums [k+1 c], whose last
// row is that of the bias. Rows behind the tile, which read its inputs, are computed once more.
template <class T>
static void backward_tile(const T* x, const int64_t* ids, const float* weight, const float* bias, const float* grad,
                          int64_t grad_step, T* grad_x, float* sums, const Shape& s, int64_t start, int64_t stop,
                          int64_t left, int64_t right) {
  float of_sums[MOST_TAPS][COLUMNS];  // gradients of what goes into silu, of the last rows
  for (int64_t i = start; i < std::min(stop + s.taps - 1, s.t); i++) {
    const Taps<T> from(x, nullptr, ids, s, i);
    float* here = of_sums[i % MOST_TAPS];
    for (int64_t column = left; column < right; column += LANES) {
      f16 v = convolved(from, weight, bias, s, column), sig = sigmoid(v);
      f16 d = load(grad + i * grad_step + column) * (sig + v * sig * (1.0f - sig));
      store(here + column - left, d);
      if (i >= stop) continue;
      for (int64_t back = 0; back < s.taps; back++) {
        if (!from.inputs[back]) continue;
        float* sum = sums + (s.taps - 1 - back) * s.c + column;
        store(sum, load(sum) + d * load(from.inputs[back] + column));
      }
      float* sum = sums + s.taps * s.c + column;
      store(sum, load(sum) + d);
    }
    const int64_t first = std::max(i - s.taps + 1, start), last = i + 1 == s.t ? std::min(stop, s.t) - 1 : i - s.taps + 1;
    for (int64_t input = first; input <= last; input++) {  // all that read this input are known
      for (int64_t column = left; column < right; column += LANES) {
        f16 d{};
        for (int64_t ahead = 0; ahead < s.taps && input + ahead < s.t; ahead++)
          if (!ids || ids[input + ahead] == ids[input])
            d += load(weight + (s.taps - 1 - ahead) * s.c + column) *
                 load(of_sums[(input + ahead) % MOST_TAPS] + column - left);
        store(grad_x + input * s.c + column, d);
      }
    }
  }
}

template <class T>
static void backward(const T* x, const int64_t* ids, const float* weight, const float* bias, const float* grad,
                     int64_t grad_row, int64_t grad_step, T* grad_x, float* sums, const Shape& s, int64_t parts) {
  const int64_t tiles = (s.t + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(static)
  for (int64_t part = 0; part < parts; part++) {
    for (int64_t tile = part * s.b * tiles / parts; tile < (part + 1) * s.b * tiles / parts; tile++) {
      const int64_t b = tile / tiles, start = tile % tiles * ROWS, stop = std::min(start + ROWS, s.t);
      for (int64_t left = 0; left < s.c; left += COLUMNS)
        backward_tile(x + b * s.row, ids ? ids + b * s.t : nullptr, weight, bias, grad + b * grad_row, grad_step,
                      grad_x + b * s.t * s.c, sums + part * (s.taps + 1) * s.c, s, start, stop, left,
                      std::min(left + COLUMNS, s.c));
    }
  }
}

#define CONV(NAME, T)                                                                                                  \
  void conv_silu_forward_##NAME(const T* x, const float* window, const int64_t* ids, const float* weight,              \
                                const float* bias, float* y, int64_t b, int64_t t, int64_t c, int64_t taps,            \
                                int64_t row, int64_t step) {                                                           \
    forward(x, window, ids, weight, bias, y, {b, t, c, taps, row, step});                                              \
  }                                                                                                                    \
  void conv_silu_backward_##NAME(const T* x, const int64_t* ids, const float* weight, const float* bias,               \
                                 const float* grad, T* grad_x, float* sums, int64_t b, int64_t t, int64_t c,           \
                                 int64_t taps, int64_t row, int64_t step, int64_t grad_row, int64_t grad_step,         \
                                 int64_t parts) {                                                                      \
    backward(x, ids, weight, bias, grad, grad_row, grad_step, grad_x, sums, {b, t, c, taps, row, step}, parts);        \
  }

extern "C" {
CONV(f32, float)
CONV(bf16, bf16)
}
