// RMSNorm, plain and behind a gate, and their gradients. Rows of c values, a multiple of 16 (of g groups each).
// Gradients of the weight are summed in `parts` runs of rows, one row of `grad_weight` [parts c] each, so that they
// depend on the number of parts only.
#include <cmath>
#include <vector>

#include "simd.h"

template <class X, class Y>
static void forward(const X* x, int64_t x_stride, const float* weight, Y* y, float* scales, int64_t m, int64_t c,
                    float eps) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < m; row++) {
    const X* in = x + row * x_stride;
    f16 total{};
    for (int64_t i = 0; i < c; i += LANES) {
      f16 v = load(in + i);
      total += v * v;
    }
    float scale = 1.0f / std::sqrt(sum(total) / c + eps);
    if (scales) scales[row] = scale;
    for (int64_t i = 0; i < c; i += LANES) store(y + row * c + i, load(in + i) * scale * load(weight + i));
  }
}

template <class X, class Y>
static void backward(const X* x, int64_t x_stride, const float* weight, const float* scales, const Y* grad, X* grad_x,
                     float* grad_weight, int64_t m, int64_t c, int64_t parts) {
#pragma omp parallel for schedule(static)
  for (int64_t part = 0; part < parts; part++) {
    float* sums = grad_weight + part * c;
    for (int64_t row = part * m / parts; row < (part + 1) * m / parts; row++) {
      const X* in = x + row * x_stride;
      const Y* dy = grad + row * c;
      float scale = scales[row];
      f16 total{};
      for (int64_t i = 0; i < c; i += LANES) {
        f16 product = load(dy + i) * (load(in + i) * scale);
        store(sums + i, load(sums + i) + product);
        total += product * load(weight + i);
      }
      float mean = sum(total) / c;
      for (int64_t i = 0; i < c; i += LANES)
        store(grad_x + row * c + i, (load(dy + i) * load(weight + i) - load(in + i) * scale * mean) * scale);
    }
  }
}

template <class X, class G, class Y>
static void gated_forward(const X* x, const G* gate, int64_t gate_stride, const float* weight, Y* y, float* scales,
                          int64_t m, int64_t c, int64_t groups, float eps) {
  const int64_t size = c / groups;
#pragma omp parallel
  {
    std::vector<float> gated(size);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < m; row++) {
      for (int64_t group = 0; group < groups; group++) {
        const X* in = x + row * c + group * size;
        const G* z = gate + row * gate_stride + group * size;
        f16 total{};
        for (int64_t i = 0; i < size; i += LANES) {
          f16 v = load(z + i);
          v = load(in + i) * (v * sigmoid(v));
          store(gated.data() + i, v);
          total += v * v;
        }
        float scale = 1.0f / std::sqrt(sum(total) / size + eps);
        if (scales) scales[row * groups + group] = scale;
        Y* out = y + row * c + group * size;
        for (int64_t i = 0; i < size; i += LANES)
          store(out + i, load(gated.data() + i) * scale * load(weight + group * size + i));
      }
    }
  }
}

template <class X, class G, class Y>
static void gated_backward(const X* x, const G* gate, int64_t gate_stride, const float* weight, const float* scales,
                           const Y* grad, X* grad_x, G* grad_gate, float* grad_weight, int64_t m, int64_t c,
                           int64_t groups, int64_t parts) {
  const int64_t size = c / groups;
#pragma omp parallel for schedule(static)
  for (int64_t part = 0; part < parts; part++) {
    std::vector<float> sigmoids(size);
    float* sums = grad_weight + part * c;
    for (int64_t row = part * m / parts; row < (part + 1) * m / parts; row++) {
      for (int64_t group = 0; group < groups; group++) {
        const int64_t first = row * c + group * size;
        const G* z = gate + row * gate_stride + group * size;
        const float* w = weight + group * size;
        float scale = scales[row * groups + group];
        f16 total{};
        for (int64_t i = 0; i < size; i += LANES) {
          f16 v = load(z + i), s = sigmoid(v);
          store(sigmoids.data() + i, s);
          f16 product = load(grad + first + i) * (load(x + first + i) * (v * s) * scale);
          float* into = sums + group * size + i;
          store(into, load(into) + product);
          total += product * load(w + i);
        }
        float mean = sum(total) / size;
        for (int64_t i = 0; i < size; i += LANES) {
          f16 v = load(z + i), s = load(sigmoids.data() + i), silu = v * s, in = load(x + first + i);
          f16 of_gated = (load(grad + first + i) * load(w + i) - in * silu * scale * mean) * scale;
          store(grad_x + first + i, of_gated * silu);
          store(grad_gate + first + i, of_gated * in * (s + silu * (1.0f - s)));
        }
      }
    }
  }
}

#define NORM(NAME, X, Y)                                                                                              \
  void norm_forward_##NAME(const X* x, int64_t x_stride, const float* weight, Y* y, float* scales, int64_t m,         \
                           int64_t c, float eps) {                                                                    \
    forward(x, x_stride, weight, y, scales, m, c, eps);                                                               \
  }                                                                                                                   \
  void norm_backward_##NAME(const X* x, int64_t x_stride, const float* weight, const float* scales, const Y* grad,    \
                            X* grad_x, float* grad_weight, int64_t m, int64_t c, int64_t parts) {                     \
    backward(x, x_stride, weight, scales, grad, grad_x, grad_weight, m, c, parts);                                    \
  }

#define GATED(NAME, X, G, Y)                                                                                          \
  void gated_forward_##NAME(const X* x, const G* gate, int64_t gate_stride, const float* weight, Y* y, float* scales, \
                            int64_t m, int64_t c, int64_t groups, float eps) {                                        \
    gated_forward(x, gate, gate_stride, weight, y, scales, m, c, groups, eps);                                        \
  }                                                                                                                   \
  void gated_backward_##NAME(const X* x, const G* gate, int64_t gate_stride, const float* weight,                     \
                             const float* scales, const Y* grad, X* grad_x, G* grad_gate, float* grad_weight,         \
                             int64_t m, int64_t c, int64_t groups, int64_t parts) {                                   \
    gated_backward(x, gate, gate_stride, weight, scales, grad, grad_x, grad_gate, grad_weight, m, c, groups, parts);  \
  }

extern "C" {
NORM(f32_f32, float, float)
NORM(f32_bf16, float, bf16)
NORM(bf16_bf16, bf16, bf16)
GATED(f32_f32_f32, float, float, float)
GATED(f32_bf16_bf16, float, bf16, bf16)
GATED(bf16_bf16_bf16, bf16, bf16, bf16)
}
