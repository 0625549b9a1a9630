// Letting guesses count that were right: what a call with `starts` left out of the states of M.
#pragma once
#include "decode_step.h"

// The window after the last row that counts.
static void keep_window(const Model& model, const Call& call, const LayerState& state, const LayerState& after,
                        int64_t sequence, int64_t count) {
  int64_t first = call.first(sequence), size = (model.taps - 1) * model.conv_size * (call.is_bf16 ? 2 : 4);
  std::memcpy((char*)state.first + call.home(first) * size, (char*)after.first + (first + count - 1) * size, size);
}

// The SSM state of one head after all rows that count, in the order and rounding of `scan`.
static void keep_state(const Model& model, const Call& call, const Layer& layer, const LayerState& state,
                       const LayerState& after, int64_t sequence, int64_t head, int64_t count) {
  int64_t p = model.ssm_dim, n = model.state, heads = model.ssm_heads, first = call.first(sequence);
  int64_t group = head / (heads / model.groups);
  const float* convolved = (const float*)after.second;
  float* s = (float*)state.second + (call.home(first) * heads + head) * p * n;
  for (int64_t row = first + 1; row < first + count; row++) {
    const float *x = convolved + row * model.conv_size + head * p,
                *B = convolved + row * model.conv_size + model.inner + group * n;
    float dt = convolved[call.rows * model.conv_size + row * heads + head], decay = std::exp(dt * layer.A[head]);
    for (int64_t q = 0; q < p; q++) {
      float step = x[q] * dt, *at = s + q * n;
      int64_t i = 0;
      for (; i + LANES <= n; i += LANES) store(at + i, load(at + i) * decay + load(B + i) * step);
      for (; i < n; i++) at[i] = at[i] * decay + B[i] * step;
    }
  }
}

// After a call with `starts`: let the first counts[g] rows of sequence g have been read, at least one, and no more.
extern "C" void decode_keep(const Model* model, const Call* call, const int64_t* counts) {
  int64_t pieces = model->num_layers * call->num_sequences;
#pragma omp parallel for num_threads((int)call->threads) schedule(dynamic)
  for (int64_t piece = 0; piece < pieces; piece++) {
    int64_t l = piece / call->num_sequences, sequence = piece % call->num_sequences;
    if (model->layers[l].letter != 'M') continue;
    keep_window(*model, *call, call->states[l], call->after[l], sequence, counts[sequence]);
    for (int64_t head = 0; head < model->ssm_heads; head++)
      keep_state(*model, *call, model->layers[l], call->states[l], call->after[l], sequence, head, counts[sequence]);
  }
}
