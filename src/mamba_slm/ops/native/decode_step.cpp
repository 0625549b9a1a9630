// One token of every row through a whole hybrid model, or a few successive tokens of one row, in one parallel region:
// sublayers as a table, states in place.
// The formulas are those of `model/` for one token; arithmetic is float32, whatever weights and caches are stored in.
//
// Work between two barriers is cut into equal pieces for the threads; every value is computed by one of them in the
// same order whatever their number, so results do not depend on it.
#include <omp.h>

#include "decode_attention.h"
#include "decode_deltas.h"
#include "decode_guesses.h"

struct Thread {
  const Model& model;
  const Call& call;
  Buffers b;
  Barrier& barrier;
  int number, count;

  template <class Do>
  void share(int64_t pieces, Do&& run) {  // run(begin, end) of this thread's part; then all wait for all
    int64_t begin = pieces * number / count, end = pieces * (number + 1) / count;
    if (begin < end) run(begin, end);
    barrier.wait();
  }

  // `value(row, i)` gives sixteen inputs of the next product.
  template <class Value>
  void inputs(int64_t n, const Matrix* readers, int num_readers, Value&& value) {
    Rows& in = b.in;
    in.inputs = n;
    in.stride = padded(n);
    int64_t blocks = in.stride / BLOCK;
    int wanted = call.deltas ? FLOATS : 0;
    for (int r = 0; r < num_readers; r++) wanted |= forms(readers[r]);
    share(in.rows * blocks, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; piece++) {
        int64_t row = piece / blocks, i = piece % blocks * BLOCK;
        f16 first = value(row, i), second = i + LANES < n ? value(row, i + LANES) : f16{};
        prepare(in, row, i / BLOCK, first, second, wanted);
      }
    });
  }

  // RMSNorm over each of `groups` equal parts of a row of `from`.
  void normed(const float* from, int64_t stride, int64_t n, int64_t groups, const float* weight, const Matrix* readers,
              int num_readers) {
    int64_t size = n / groups, known_row = -1, known_group = -1;
    float scale = 0;
    auto scale_of = [&](int64_t row, int64_t group) {
      if (row != known_row || group != known_group) {
        const float* x = from + row * stride + group * size;
        f16 squares = {};
        for (int64_t i = 0; i < size; i += LANES) {
          f16 v = load_to(x, i, size);
          squares += v * v;
        }
        scale = 1 / std::sqrt(sum(squares) / size + (float)model.eps);
        known_row = row, known_group = group;
      }
      return scale;
    };
    inputs(n, readers, num_readers, [&](int64_t row, int64_t i) {
      f16 v = load_to(from + row * stride, i, n) * load_to(weight, i, n);
      if (i / size == (i + LANES - 1 < n ? i + LANES - 1 : n - 1) / size) return v * scale_of(row, i / size);
      for (int j = 0; j < LANES && i + j < n; j++) v[j] *= scale_of(row, (i + j) / size);
      return v;
    });
  }

  template <bool ADD>
  void multiply(const Matrix& w, float* y, int64_t stride) {
    share(panels(w), [&](int64_t begin, int64_t end) { product<ADD>(w, b.in, begin, end, y, stride); });
  }

  // With what the adapters of the rows add.
  template <bool ADD>
  void multiply(const Layer& layer, int matrix, float* y, int64_t stride) {
    const Matrix& w = layer.matrices[matrix];
    const Delta* delta = call.deltas ? call.deltas + 4 * (&layer - model.layers) + matrix : nullptr;
    if (!delta || !delta->A) return multiply<ADD>(w, y, stride);
    int64_t pieces = narrow_pieces(call);  // nobody reads what they make before the next barrier
    narrow(call, b, *delta, pieces * number / count, pieces * (number + 1) / count);
    bool apart = ADD && delta->ratios;  // factors are for the product, and not for what it is added to
    if (apart)
      multiply<false>(w, b.wide, b.stride_wide);
    else
      multiply<ADD>(w, y, stride);
    share(panels(w), [&](int64_t begin, int64_t end) {
      if (apart)
        widen(call, b, *delta, w.outputs, begin, end, b.wide, b.stride_wide, y, stride);
      else
        widen(call, b, *delta, w.outputs, begin, end, y, stride, nullptr, 0);
    });
  }

  void embed() {
    share(call.rows, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        float* h = b.h + row * b.stride_h;
        int64_t position = call.num_tokens[row];
        matrix_row(model.embedding, call.tokens[row], h);
        if (model.has_positions) {
          matrix_row(model.positions, position, b.wide + row * b.stride_wide);
          for (int64_t i = 0; i < model.d; i++) h[i] += b.wide[row * b.stride_wide + i];
        }
        if (call.table) continue;
        int64_t slot = call.state_row(row) * call.capacity + call.slot(row);
        call.positions[slot] = position;
        call.valid[slot] = 1;
      }
    });
  }

  void feed_forward(const Layer& layer) {
    int64_t f = model.feed_forward;
    normed(b.h, b.stride_h, model.d, 1, layer.norm, layer.matrices, 1);
    multiply<false>(layer, 0, b.wide, b.stride_wide);
    inputs(f, layer.matrices + 1, 1, [&](int64_t row, int64_t i) {
      const float* gate = b.wide + row * b.stride_wide;
      f16 g = load_to(gate, i, f);
      return g * sigmoid(g) * load_to(gate + f, i, f);
    });
    multiply<true>(layer, 1, b.h, b.stride_h);
  }

  // The state that token `row` starts from, and where it leaves its own: the same memory, except in a sequence.
  template <class T>
  static T* before(const Call& call, T* state, T* after, int64_t row, int64_t first, int64_t size) {
    return call.after && row > first ? after + (row - 1) * size : state + call.home(row) * size;
  }
  template <class T>
  static T* behind(const Call& call, T* state, T* after, int64_t row, int64_t size) {
    return call.after ? after + row * size : state + call.home(row) * size;
  }

  template <class T>
  void convolve(const Layer& layer, T* window, T* after) {
    int64_t c = model.conv_size, vectors = (c + LANES - 1) / LANES, kept = model.taps - 1;
    share(call.sequences() * vectors, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; piece++) {
        int64_t i = piece % vectors * LANES, sequence = piece / vectors, first = call.first(sequence);
        int part = (int)(c - i < LANES ? c - i : LANES);
        auto put = [&](T* to, f16 v) { part == LANES ? store(to, v) : store_part(to, v, part); };
        for (int64_t row = first; row < call.end(sequence); row++) {
          const T* w = before(call, window, after, row, first, kept * c) + i;
          T* next = behind(call, window, after, row, kept * c) + i;
          f16 raw = load_to(b.wide + row * b.stride_wide + model.inner + i, 0, part);
          f16 y = load_to(layer.conv_bias + i, 0, part) + raw * load_to(layer.conv_weight + kept * c + i, 0, part);
          for (int64_t tap = 0; tap < kept; tap++)
            y += load_to(w + tap * c, 0, part) * load_to(layer.conv_weight + tap * c + i, 0, part);
          for (int64_t tap = 0; tap + 1 < kept; tap++) put(next + tap * c, load_to(w + (tap + 1) * c, 0, part));
          put(next + (kept - 1) * c, raw);
          y *= sigmoid(y);
          float* to = b.convolved + row * c + i;
          part == LANES ? store(to, y) : store_part(to, y, part);
        }
      }
    });
  }

  // One head of one token: `s` [p n] to `next`, which may be the same. Returns dt.
  float scan(const Layer& layer, const float* s, float* next, int64_t row, int64_t head) {
    int64_t inner = model.inner, p = model.ssm_dim, n = model.state, group = head / (model.ssm_heads / model.groups);
    const float* wide = b.wide + row * b.stride_wide;
    const float* x = b.convolved + row * model.conv_size + head * p;
    const float* B = b.convolved + row * model.conv_size + inner + group * n;
    const float* C = B + model.groups * n;
    float dt = wide[inner + model.conv_size + head] + layer.dt_bias[head];
    dt = dt > 20 ? dt : std::log1p(std::exp(dt));
    float decay = std::exp(dt * layer.A[head]);
    float* y = b.gated + row * padded(inner) + head * p;
    for (int64_t q = 0; q < p; q++, s += n, next += n) {
      f16 total = {};
      float step = x[q] * dt, rest = 0;
      int64_t i = 0;
      for (; i + LANES <= n; i += LANES) {
        f16 value = load(s + i) * decay + load(B + i) * step;
        store(next + i, value);
        total += value * load(C + i);
      }
      for (; i < n; i++) {
        next[i] = s[i] * decay + B[i] * step;
        rest += next[i] * C[i];
      }
      y[q] = sum(total) + rest + layer.D[head] * x[q];
    }
    for (int64_t q = 0; q < p; q += LANES) {
      int part = (int)(p - q < LANES ? p - q : LANES);
      f16 z = load_to(wide + head * p + q, 0, part), v = load_to(y + q, 0, part) * z * sigmoid(z);
      part == LANES ? store(y + q, v) : store_part(y + q, v, part);
    }
    return dt;
  }

  void mamba(const Layer& layer, const LayerState& state, const LayerState& after) {
    int64_t inner = model.inner, heads = model.ssm_heads, size = model.ssm_dim * model.state;
    if (call.starts) b.convolved = (float*)after.second;
    normed(b.h, b.stride_h, model.d, 1, layer.norm, layer.matrices, 1);
    multiply<false>(layer, 0, b.wide, b.stride_wide);
    if (call.is_bf16)
      convolve(layer, (bf16*)state.first, (bf16*)after.first);
    else
      convolve(layer, (float*)state.first, (float*)after.first);
    share(call.sequences() * heads, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; piece++) {
        int64_t head = piece % heads, sequence = piece / heads, first = call.first(sequence);
        for (int64_t row = first; row < call.end(sequence); row++) {
          if (call.starts) {  // the first token for good, guesses in memory that stays in a cache
            float* s = (float*)state.second + (call.home(row) * heads + head) * size;
            float* guess = b.guessed + number * size;
            float dt = scan(layer, row <= first + 1 ? s : guess, row == first ? s : guess, row, head);
            b.convolved[call.rows * model.conv_size + row * heads + head] = dt;
            continue;
          }
          const float* s = before(call, (float*)state.second, (float*)after.second, row, first, heads * size);
          float* next = behind(call, (float*)state.second, (float*)after.second, row, heads * size);
          scan(layer, s + head * size, next + head * size, row, head);
        }
      }
    });
    normed(b.gated, padded(inner), inner, model.groups, layer.gated_norm, layer.matrices + 1, 1);
    multiply<true>(layer, 1, b.h, b.stride_h);
  }

  template <class T>
  void attend(T* keys, T* values) {
    int64_t e = model.head_dim, kv = model.kv_heads, heads = model.heads, each = heads + 2 * kv;
    share(call.rows * each, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; piece++) {
        int64_t row = piece / each, head = piece % each;
        float* x = b.wide + row * b.stride_wide + head * e;
        if (model.frequencies && head < heads + kv) rotate(model, x, call.num_tokens[row]);
        if (head < heads) continue;
        T* to = (head < heads + kv ? keys : values) +
                call.place(row, (head - heads) % kv, kv, call.slot(row)) * e;
        for (int64_t i = 0; i < e; i += LANES)
          store_part(to + i, load_to(x, i, e), (int)(e - i < LANES ? e - i : LANES));
      }
    });
    int64_t shared = heads / kv, groups = (shared + 3) / 4;
    share(call.rows * kv * groups * b.chunks, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; piece++) {
        int64_t part = piece / b.chunks, group = part % groups, first = part / groups % kv * shared + 4 * group;
        int64_t left = shared - 4 * group;
        look(model, call, b, keys, values, part / groups / kv, first, left < 4 ? left : 4, piece % b.chunks);
      }
    });
    share(call.rows * heads, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; piece++) {
        const float* parts = b.partial + piece * b.chunks * (e + 2);
        float most = -INFINITY, total = 0;
        for (int64_t c = 0; c < b.chunks; c++) most = std::fmax(most, parts[c * (e + 2)]);
        float* out = b.attended + piece / heads * padded(heads * e) + piece % heads * e;
        for (int64_t i = 0; i < e; i++) out[i] = 0;
        for (int64_t c = 0; c < b.chunks; c++) {
          const float* part = parts + c * (e + 2);
          if (part[1] == 0) continue;
          float weight = std::exp(part[0] - most);
          total += weight * part[1];
          for (int64_t i = 0; i < e; i++) out[i] += weight * part[2 + i];
        }
        for (int64_t i = 0; i < e; i++) out[i] /= total;
      }
    });
  }

  void attention(const Layer& layer, const LayerState& state) {
    int64_t n = model.heads * model.head_dim, kv = model.kv_heads * model.head_dim;
    normed(b.h, b.stride_h, model.d, 1, layer.norm, layer.matrices, 3);
    multiply<false>(layer, 0, b.wide, b.stride_wide);
    multiply<false>(layer, 1, b.wide + n, b.stride_wide);
    multiply<false>(layer, 2, b.wide + n + kv, b.stride_wide);
    if (call.is_bf16)
      attend((bf16*)state.first, (bf16*)state.second);
    else
      attend((float*)state.first, (float*)state.second);
    inputs(n, layer.matrices + 3, 1,
           [&](int64_t row, int64_t i) { return load_to(b.attended + row * padded(n), i, n); });
    multiply<true>(layer, 3, b.h, b.stride_h);
  }

  void run() {
    embed();
    for (int64_t l = 0; l < model.num_layers; l++) {
      const Layer& layer = model.layers[l];
      if (layer.letter == 'M')
        mamba(layer, call.states[l], call.after ? call.after[l] : LayerState{});
      else if (layer.letter == '*')
        attention(layer, call.states[l]);
      else
        feed_forward(layer);
    }
    if (call.hidden)
      share(call.rows, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++)
          std::memcpy(call.hidden + row * model.d, b.h + row * b.stride_h, model.d * sizeof(float));
      });
    normed(b.h, b.stride_h, model.d, 1, model.final_norm, &model.head, 1);
    multiply<false>(model.head, call.logits, model.vocab);
  }
};

extern "C" {
// Floats of memory that a call needs.
int64_t decode_memory(const Model* model, const Call* call) {
  Memory memory = {nullptr};
  buffers(*model, *call, memory);
  return memory.used;
}

// Returns -1, or the first row whose token is not in the vocabulary; then nothing has changed.
int64_t decode_step(const Model* model, const Call* call) {
  for (int64_t row = 0; row < call->rows; row++)
    if (call->tokens[row] < 0 || call->tokens[row] >= model->vocab) return row;
  Memory memory = {call->memory};
  Buffers b = buffers(*model, *call, memory);
  Barrier barrier;
#pragma omp parallel num_threads((int)call->threads)
  {
#pragma omp single
    barrier.threads = omp_get_num_threads();
    Thread{*model, *call, b, barrier, omp_get_thread_num(), omp_get_num_threads()}.run();
  }
  return -1;
}
}
