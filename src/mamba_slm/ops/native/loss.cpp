// Softmax of rows of logits with the loss of a target each, and the gradient over the logits. v values a row. And a sum
// in float32 of products in bfloat16.
#include <cmath>

#include "simd.h"

template <class F, class T>
static inline void each(T* row, int64_t v, float padding, F use) {
  int64_t i = 0;
  for (; i + LANES <= v; i += LANES) use(row + i, load(row + i), LANES);
  if (i < v) {
    T whole[LANES];
    store(whole, splat(padding));
    std::memcpy(whole, row + i, (v - i) * sizeof(T));
    use(row + i, load(whole), int(v - i));
  }
}

template <class T>
static void token_losses(T* logits, int64_t stride, const int64_t* targets, float* losses, int64_t m, int64_t v,
                         bool needs_grad) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < m; r++) {
    T* row = logits + r * stride;
    const float lowest = -INFINITY;
    f16 most = splat(lowest);
    each(row, v, lowest, [&](T*, f16 x, int) { most = max(most, x); });
    const float shift = largest(most);
    f16 total{};
    each(row, v, lowest, [&](T*, f16 x, int) { total += exp(x - shift); });
    const float sum_of_exp = sum(total), of_target = float(load_part(row + targets[r], 1)[0]);
    losses[r] = shift + std::log(sum_of_exp) - of_target;
    if (!needs_grad) continue;
    const float scale = 1.0f / sum_of_exp;
    each(row, v, lowest, [&](T* at, f16 x, int count) {
      f16 p = exp(x - shift) * scale;
      if (count == LANES)
        store(at, p);
      else
        store_part(at, p, count);
    });
    T* at = row + targets[r];
    store_part(at, splat(std::exp(of_target - shift) * scale - 1.0f), 1);
  }
}

extern "C" {
// total = product, or total += product, whole multiples of 16.
void accumulate_bf16(float* total, const bf16* product, int64_t count, int64_t overwrite) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; i += LANES)
    store(total + i, overwrite ? load(product + i) : load(total + i) + load(product + i));
}

void token_losses_f32(float* logits, int64_t stride, const int64_t* targets, float* losses, int64_t m, int64_t v,
                      int64_t needs_grad) {
  token_losses(logits, stride, targets, losses, m, v, needs_grad != 0);
}
void token_losses_bf16(bf16* logits, int64_t stride, const int64_t* targets, float* losses, int64_t m, int64_t v,
                       int64_t needs_grad) {
  token_losses(logits, stride, targets, losses, m, v, needs_grad != 0);
}
}
