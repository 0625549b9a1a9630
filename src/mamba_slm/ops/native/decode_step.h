// What a decoding step reads: the model as a table of sublayers, the state as pointers, and memory to work in.
#pragma once
#include <sched.h>

#include <atomic>

#include "row_product.h"

struct Layer {
  int64_t letter;  // M, * or -
  const float* norm;
  Matrix matrices[4];  // M: in, out; *: query, key, value, out; -: gate and up, down
  const float *conv_weight, *conv_bias, *dt_bias, *A, *D, *gated_norm;  // conv_weight [taps c]; A = -exp(A_log)
};

struct Model {
  int64_t d, num_layers;
  const Layer* layers;
  Matrix embedding, head;
  const float* final_norm;
  int64_t has_positions;
  Matrix positions;  // learned ones
  double eps;
  int64_t heads, kv_heads, head_dim, window;  // window: 0 is all
  const float *frequencies, *slopes;          // rotary [head_dim / 2], ALiBi [heads]; null without
  double rotary_scale;
  int64_t inner, conv_size, taps, ssm_heads, ssm_dim, state, groups, feed_forward, vocab;
};

// What the adapters of a call add to the product with one matrix, y = W x: B (A x), and then a factor for each output
// where `ratios` are there (DoRA). Adapter a has the ranks ranks[a] … ranks[a + 1] - 1; a row without one has the last
// number, which has no ranks and factors of 1.
struct Delta {
  const float *A, *B, *ratios;  // A [total i]; B in panels of sixteen outputs, [panels total 16]; ratios [adapters + 1 o]
  const int64_t* ranks;         // [adapters + 2]
  int64_t total;
};

struct LayerState {
  void *first, *second;  // M: window [b taps-1 c], ssm [b h p n] float32; *: keys, values [b kv capacity head_dim]
};

// With `table`, rows are of different lengths: row r has its states of M in row slots[r] of the state's memory, and its
// token i has keys and values in block table[r * table_stride + i / block], [blocks kv block head_dim]; `length`,
// `capacity`, `positions` and `valid` mean nothing then. `block` is a multiple of 4.
//
// With `after`, the rows are successive tokens of one sequence: the states of M are left as they are, and those after
// each token are written to after[layer]: window [b taps-1 c], ssm [b h p n].
//
// With `starts`, and a table, row starts[g] is the next token of sequence g, and the rows up to starts[g + 1] are guesses
// of what follows it. The SSM states of M advance by the first row of a sequence only; after[layer] gets the windows
// [b taps-1 c] after each row, and what `decode_keep` needs to let guesses count: convolved inputs [b c] and dt [b h].
struct Call {
  int64_t rows, threads, length, capacity, is_bf16, has_padding;  // is_bf16: windows, keys and values
  const int64_t *tokens, *num_tokens;                             // [b]
  int64_t* positions;                                             // [b capacity], or [1 capacity] of a sequence
  uint8_t* valid;                                                 // the same
  const LayerState *states, *after;                               // one per layer; after: null, or of a sequence
  float *logits, *memory;                                         // [b vocab]; as many floats as `decode_memory` says
  float* hidden;                                                  // null, or [b d]: residuals after the last layer
  const int64_t *slots, *table;                                   // null, or [b] and [b table_stride]
  int64_t table_stride, block;
  int64_t alike;  // whether a row must be the same to the last bit whatever other rows there are
  const int64_t* starts;  // null, or [num_sequences + 1]
  int64_t num_sequences;
  const Delta* deltas;      // null, or [layers 4] as `Layer::matrices`; A is null where no adapter changes a matrix
  const int64_t* adapters;  // [b] whose adapter each row has
  int64_t most_ranks;       // of one adapter in one matrix

  int64_t state_row(int64_t row) const { return after ? 0 : row; }  // whose slots a token is put into, without a table
  int64_t slot(int64_t row) const { return table ? num_tokens[row] : after ? length + row : length; }  // and which
  int64_t home(int64_t row) const { return slots ? slots[row] : row; }  // where a row has its states of M

  // Where slot `slot` of a key-value head is, in rows of head_dim.
  int64_t place(int64_t row, int64_t head, int64_t kv, int64_t slot) const {
    if (table) return (table[row * table_stride + slot / block] * kv + head) * block + slot % block;
    return (state_row(row) * kv + head) * capacity + slot;
  }
  int64_t longest() const {  // slots that the longest row looks at
    int64_t most = 0;
    for (int64_t row = 0; row < rows; row++) most = most > slot(row) + 1 ? most : slot(row) + 1;
    return most;
  }
  int64_t sequences() const { return starts ? num_sequences : after ? 1 : rows; }  // that advance on their own
  int64_t first(int64_t sequence) const { return starts ? starts[sequence] : sequence; }  // row of each of them
  int64_t end(int64_t sequence) const { return starts ? starts[sequence + 1] : after ? rows : sequence + 1; }
};

constexpr int64_t CHUNK = 256;  // key slots that one thread looks at in one piece

struct Memory {
  float* at;
  int64_t used = 0;
  template <class T>
  T* take(int64_t count) {
    int64_t floats = (count * sizeof(T) + 63) / 64 * 16;
    T* given = at ? (T*)(at + used) : nullptr;
    used += floats;
    return given;
  }
};

// Threads wait for each other by looking; whoever waits long lets others run.
struct Barrier {
  std::atomic<int> arrived{0}, round{0};
  int threads;
  void wait() {
    if (threads == 1) return;
    int now = round.load(std::memory_order_relaxed);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
      arrived.store(0, std::memory_order_relaxed);
      round.store(now + 1, std::memory_order_release);
      return;
    }
    for (int looks = 0; round.load(std::memory_order_acquire) == now; looks++) {
      if (looks > 4000)
        sched_yield();
#ifdef __x86_64__
      else
        __builtin_ia32_pause();
#endif
    }
  }
};

struct Buffers {
  int64_t stride_h, stride_wide, chunks;
  float *h, *wide, *convolved, *gated, *attended, *partial, *guessed, *narrow;
  Rows in;
};

static Buffers buffers(const Model& model, const Call& call, Memory& memory) {
  Buffers b;
  int64_t rows = call.rows, attention = model.heads * model.head_dim;
  int64_t qkv = attention + 2 * model.kv_heads * model.head_dim;
  int64_t wide = model.inner + model.conv_size + model.ssm_heads;
  if (wide < 2 * model.feed_forward) wide = 2 * model.feed_forward;
  if (wide < qkv) wide = qkv;
  if (wide < model.d) wide = model.d;
  int64_t most = model.inner > model.feed_forward ? model.inner : model.feed_forward;
  if (most < model.d) most = model.d;
  most = padded(most);
  b.stride_h = padded(model.d);
  b.stride_wide = padded(wide);
  b.chunks = (call.longest() + CHUNK - 1) / CHUNK;
  b.h = memory.take<float>(rows * b.stride_h);
  b.wide = memory.take<float>(rows * b.stride_wide);
  b.convolved = memory.take<float>(rows * model.conv_size);
  b.gated = memory.take<float>(rows * padded(model.inner));
  b.attended = memory.take<float>(rows * padded(attention));
  b.partial = memory.take<float>(rows * model.heads * b.chunks * (model.head_dim + 2));
  b.guessed = memory.take<float>(call.starts ? call.threads * model.ssm_dim * model.state : 0);
  b.narrow = memory.take<float>(call.deltas ? rows * call.most_ranks : 0);
  b.in.rows = rows;
  b.in.alike = call.alike;
  b.in.x = memory.take<float>(rows * most);
  b.in.high = memory.take<bf16>(rows * most);
  b.in.low = memory.take<bf16>(rows * most);
  b.in.exact = memory.take<Digits<DIGITS>>(rows * most / BLOCK);
  b.in.rounded = memory.take<Digits<1>>(rows * most / BLOCK);
  return b;
}
