// silu(gate) * up, where a row is gate and up behind each other, and its gradient. m rows, f values each half.
#include "simd.h"

template <class T>
static void forward(const T* x, T* y, int64_t m, int64_t f) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < m; row++) {
    const T *gate = x + row * 2 * f, *up = gate + f;
    T* out = y + row * f;
    for (int64_t i = 0; i < f; i += LANES) {
      f16 g = load(gate + i);
      store(out + i, g * sigmoid(g) * load(up + i));
    }
  }
}

template <class T>
static void backward(const T* x, const T* grad, T* grad_x, int64_t m, int64_t f) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < m; row++) {
    const T *gate = x + row * 2 * f, *up = gate + f, *dy = grad + row * f;
    T *grad_gate = grad_x + row * 2 * f, *grad_up = grad_gate + f;
    for (int64_t i = 0; i < f; i += LANES) {
      f16 g = load(gate + i), d = load(dy + i);
      f16 s = sigmoid(g), silu = g * s;
      store(grad_gate + i, d * load(up + i) * (s + silu * (1.0f - s)));
      store(grad_up + i, d * silu);
    }
  }
}

extern "C" {
void swiglu_forward_f32(const float* x, float* y, int64_t m, int64_t f) { forward(x, y, m, f); }
void swiglu_forward_bf16(const bf16* x, bf16* y, int64_t m, int64_t f) { forward(x, y, m, f); }
void swiglu_backward_f32(const float* x, const float* grad, float* grad_x, int64_t m, int64_t f) {
  backward(x, grad, grad_x, m, f);
}
void swiglu_backward_bf16(const bf16* x, const bf16* grad, bf16* grad_x, int64_t m, int64_t f) {
  backward(x, grad, grad_x, m, f);
}
}
