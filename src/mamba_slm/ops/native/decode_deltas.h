// What adapters add to the products of a decoding step: y = W x + B (A x), each row with the ranks of its own adapter.
// Every value is summed in the same order whatever other rows there are, and whatever they use.
#pragma once
#include "decode_step.h"

constexpr int RANKS = 4;  // that are summed at once

static inline int64_t narrow_pieces(const Call& call) {
  return call.rows * ((call.most_ranks + RANKS - 1) / RANKS);
}

// A x of each row, of the ranks of its adapter.
static void narrow(const Call& call, const Buffers& b, const Delta& delta, int64_t begin, int64_t end) {
  const Rows& in = b.in;
  int64_t groups = (call.most_ranks + RANKS - 1) / RANKS;
  for (int64_t piece = begin; piece < end; piece++) {
    int64_t row = piece / groups, r = piece % groups * RANKS;
    const int64_t* ranks = delta.ranks + call.adapters[row];
    int64_t left = ranks[1] - ranks[0] - r;
    if (left <= 0) continue;
    const float *x = in.x + row * in.stride, *lines[RANKS];
    for (int j = 0; j < RANKS; j++) lines[j] = delta.A + (ranks[0] + r + (j < left ? j : 0)) * in.inputs;
    f16 totals[RANKS] = {};
    for (int64_t i = 0; i < in.inputs; i += LANES)
      for (int j = 0; j < RANKS; j++) totals[j] += load(x + i) * load_to(lines[j], i, in.inputs);
    for (int j = 0; j < RANKS && j < left; j++) b.narrow[row * call.most_ranks + r + j] = sum(totals[j]);
  }
}

// Outputs of panels `begin` … `end - 1`: to += B (A x), times the factors; with `onto`, that grows by the result instead.
static void widen(const Call& call, const Buffers& b, const Delta& delta, int64_t outputs, int64_t begin, int64_t end,
                  float* to, int64_t stride, float* onto, int64_t onto_stride) {
  for (int64_t panel = begin; panel < end; panel++) {
    int64_t o = panel * LANES;
    int part = (int)(outputs - o < LANES ? outputs - o : LANES);
    for (int64_t row = 0; row < call.rows; row++) {
      int64_t adapter = call.adapters[row], first = delta.ranks[adapter], ranks = delta.ranks[adapter + 1] - first;
      if (!delta.ratios && !ranks) continue;
      const float *B = delta.B + (panel * delta.total + first) * LANES, *x = b.narrow + row * call.most_ranks;
      f16 y = load_to(to + row * stride + o, 0, part);
      for (int64_t r = 0; r < ranks; r++) y += load(B + r * LANES) * x[r];
      if (delta.ratios) y *= load_to(delta.ratios + adapter * outputs + o, 0, part);
      float* result = (onto ? onto + row * onto_stride : to + row * stride) + o;
      if (onto) y += load_to(result, 0, part);
      part == LANES ? store(result, y) : store_part(result, y, part);
    }
  }
}
