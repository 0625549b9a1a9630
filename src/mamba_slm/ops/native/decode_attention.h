// What attention does with one query head, or with four that share a key head.
#pragma once
#include <cmath>

#include "decode_step.h"

static void rotate(const Model& model, float* x, int64_t position) {
  int64_t half = model.head_dim / 2;
  for (int64_t i = 0; i < half; i++) {
    float angle = (float)position * model.frequencies[i], scale = (float)model.rotary_scale;
    float cosine = std::cos(angle) * scale, sine = std::sin(angle) * scale;
    float first = x[i], second = x[i + half];
    x[i] = first * cosine - second * sine;
    x[i + half] = second * cosine + first * sine;
  }
}

// Scores of up to four query heads, which share one key head, against slots `begin` … `end - 1`, and their part of
// the result.
template <class T>
static void look(const Model& model, const Call& call, const Buffers& b, const T* keys, const T* values, int64_t row,
                 int64_t head, int64_t count, int64_t chunk) {
  int64_t e = model.head_dim, own = call.slot(row), length = own + 1, begin = chunk * CHUNK, of = call.state_row(row);
  int64_t slots = length - begin < CHUNK ? length - begin : CHUNK;
  const int64_t* positions = call.positions + of * call.capacity + begin;
  const uint8_t* valid = call.valid + of * call.capacity + begin;
  int64_t here = call.num_tokens[row];
  const float* q = b.wide + row * b.stride_wide + head * e;
  float* out = b.partial + ((row * model.heads + head) * b.chunks + chunk) * (e + 2);
  int64_t out_stride = b.chunks * (e + 2);
  if (slots <= 0) {  // of a row that is shorter than others
    for (int64_t g = 0; g < count; g++) out[g * out_stride] = -INFINITY, out[g * out_stride + 1] = 0;
    return;
  }
  float scale = 1 / std::sqrt((float)e), scores[4][CHUNK] = {};
  int64_t places[CHUNK / 4];  // of every fourth slot; the next three follow it
  for (int64_t s = 0; s < slots; s += 4)
    places[s / 4] = call.place(row, head / (model.heads / model.kv_heads), model.kv_heads, begin + s) * e;
  for (int64_t s = 0; s < slots; s += 4) {
    f16 products[16] = {};
    for (int64_t i = 0; i < e; i += LANES)
      for (int64_t j = 0; j < 4 && s + j < slots; j++) {
        f16 key = load_to(keys + places[s / 4] + j * e, i, e);
        for (int64_t g = 0; g < count; g++) products[g * 4 + j] += key * load_to(q + g * e, i, e);
      }
    f16 totals = sums(products) * scale;
    for (int g = 0; g < 4; g++) std::memcpy(scores[g] + s, (const float*)&totals + 4 * g, 16);
  }
  for (int64_t g = 0; g < count; g++) {
    float most = -INFINITY, total = 0;
    for (int64_t s = 0; s < slots; s++) {
      float& score = scores[g][s];
      int64_t position = call.table ? begin + s : positions[s];
      if (model.slopes) score -= model.slopes[head + g] * (float)(here - position);
      bool unseen = (call.has_padding && !valid[s]) || (model.window && here - position >= model.window);
      if (unseen && begin + s != own) score = -INFINITY;
      most = score > most ? score : most;
    }
    for (int64_t s = slots; s < CHUNK && s % LANES; s++) scores[g][s] = -INFINITY;
    f16 totals = {};
    for (int64_t s = 0; s < slots; s += LANES) {
      f16 weights = most > -INFINITY ? exp(load(scores[g] + s) - most) : f16{};
      store(scores[g] + s, weights);
      totals += weights;
    }
    total = sum(totals);
    out[g * out_stride] = most;
    out[g * out_stride + 1] = total;
  }
  for (int64_t i = 0; i < e; i += LANES) {
    f16 results[4] = {};
    for (int64_t s = 0; s < slots; s++) {
      f16 value = load_to(values + places[s / 4] + s % 4 * e, i, e);
      for (int g = 0; g < 4; g++) results[g] += value * scores[g][s];
    }
    for (int64_t g = 0; g < count; g++) {
      float* to = out + g * out_stride + 2 + i;
      e - i >= LANES ? store(to, results[g]) : store_part(to, results[g], (int)(e - i));
    }
  }
}
