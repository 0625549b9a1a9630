// Causal attention with grouped heads, block by block: no score is ever written to memory. Letters: ops/attention.py.
//
// Forward: for blocks of queries and of keys, scores = q kT, weights = exp(scores - largest so far), out += weights v,
// rescaled whenever the largest grows (Milakov and Gimelshein, arXiv:1805.02867; Dao, arXiv:2307.08691). What is saved
// is the logarithm of each row's sum.
#include "attention_backward.h"
#include "attention_strips.h"

namespace {

constexpr int64_t QUERY_BLOCK = 96, KEY_BLOCK = 4 * TILE;

// Scores [ROWS][KEY_BLOCK], columns `from` to `to`, of the keys from `key` on, to weights; `top` and `sums` go along.
template <class T>
inline void soften(float* scores, T* weights, int64_t from, int64_t to, int64_t key, const Strip& strip, float factor,
                   float* top, f16* sums, float* rescale) {
  bool is_edge = key + from < strip.all_first || key + to - 1 > strip.all_last;
  f16 before = load(top);
  for (int r = 0; r < ROWS; r++) {
    float* x = scores + r * KEY_BLOCK;
    if (is_edge)
      for (int64_t c = from; c < to; c += LANES)
        store(x + c, is_seen(strip, r, key + c) ? load(x + c) : splat(UNSEEN));
    f16 found = splat(UNSEEN);
    for (int64_t c = from; c < to; c += LANES) found = max(found, load(x + c));
    float largest_score = largest(found) * factor;
    top[r] = largest_score > top[r] ? largest_score : top[r];
  }
  store(rescale, power<T>(before - load(top)));
  for (int r = 0; r < ROWS; r++) {
    const float* x = scores + r * KEY_BLOCK;
    T* w = weights + r * KEY_BLOCK;
    f16 sum = sums[r] * rescale[r];
    for (int64_t c = from; c < to; c += LANES) {
      f16 weight = power<T>(load(x + c) * factor - top[r]);
      sum += weight;
      store(w + c, weight);
    }
    sums[r] = sum;
  }
}

template <class T>
struct ForwardScratch {
  Buffer<word> q;
  Buffer<float> out, scores;
  Buffer<T> weights;
  alignas(64) float top[QUERY_BLOCK / ROWS][LANES];
  f16 sums[QUERY_BLOCK];
  explicit ForwardScratch(int64_t d)
      : q(QUERY_BLOCK * d), out(QUERY_BLOCK * d), scores(ROWS * KEY_BLOCK), weights(ROWS * KEY_BLOCK) {}
};

// One block of queries of one head, from `row` on.
template <class T>
void forward_block(const Problem& p, const T* q, const word* keys, const word* values, const int64_t* first_key,
                   int64_t row, T* out, float* logsumexp, ForwardScratch<T>& scratch) {
  constexpr int P = PER_WORD<T>;
  const int64_t d = p.d, rows = smaller(QUERY_BLOCK, p.t - row), strips = round_up(rows, ROWS) / ROWS;
  const float factor = 1 / (std::sqrt(float(d)) * BASE<T>);
  pack_rows(q + row * p.q[1], p.q[1], rows, strips * ROWS, d, scratch.q);
  std::memset(scratch.out, 0, strips * ROWS * d * sizeof(float));
  std::memset(scratch.sums, 0, sizeof scratch.sums);
  int64_t begin = p.s, end = 0;
  for (int64_t i = 0; i < strips; i++) {
    Strip strip(p, first_key, row + i * ROWS);
    begin = smaller(begin, strip.any_first), end = larger(end, strip.any_last + 1);
    for (int r = 0; r < LANES; r++) scratch.top[i][r] = LOWEST;
  }
  for (int64_t key = begin / KEY_BLOCK * KEY_BLOCK; key < end; key += KEY_BLOCK)
    for (int64_t i = 0; i < strips; i++) {
      Strip strip(p, first_key, row + i * ROWS);
      int64_t from = larger(strip.any_first - key, 0) / LANES * LANES;
      int64_t to = smaller(round_up(strip.any_last + 1 - key, LANES), KEY_BLOCK);
      if (from >= to) continue;
      alignas(64) float rescale[LANES];
      product_with_tiles<T>(scratch.q + i * ROWS * d / P, d / P, keys, key + from, d / P, scratch.scores + from,
                            KEY_BLOCK, (to - from) / LANES);
      soften<T>(scratch.scores, scratch.weights, from, to, key, strip, factor, scratch.top[i], scratch.sums + i * ROWS,
                rescale);
      product<T, IN_ROWS, FROM_SCALED_C>((word*)scratch.weights.data + from / P, KEY_BLOCK / P,
                                         values + (key + from) / P * d, d, (to - from) / P,
                                         scratch.out + i * ROWS * d, d, d / LANES, rescale);
    }
  for (int64_t i = 0; i < rows; i++) {
    float total = sum(scratch.sums[i]), inverse = total > 0 ? 1 / total : 0;
    const float* from = scratch.out + i * d;
    T* to = out + (row + i) * p.h * d;
    for (int64_t j = 0; j < d; j += LANES) store(to + j, load(from + j) * inverse);
    if (logsumexp) logsumexp[row + i] = scratch.top[i / ROWS][i % ROWS] * BASE<T> + std::log(total);
  }
}

template <class T>
void forward(const Problem& p, const T* q, const T* k, const T* v, const int64_t* first_key, T* out,
             float* logsumexp) {
  const int64_t s = round_up(p.s, TILE), size = s * p.d / PER_WORD<T>, tiles = s / TILE, tile = size / tiles;
  const int64_t blocks = round_up(p.t, QUERY_BLOCK) / QUERY_BLOCK;
  Buffer<word> keys(p.b * p.kv * size), values(p.b * p.kv * size);
#pragma omp parallel
  {
    ForwardScratch<T> scratch(p.d);
#pragma omp for schedule(dynamic, 4)
    for (int64_t i = 0; i < p.b * p.kv * tiles; i++) {
      int64_t n = i / tiles, at = i % tiles * TILE, row = n / p.kv, head = n % p.kv, rows = smaller(TILE, p.s - at);
      pack_transposed(k + row * p.k[0] + at * p.k[1] + head * p.k[2], p.k[1], rows, TILE, p.d, keys + i * tile);
      pack_pairs(v + row * p.v[0] + at * p.v[1] + head * p.v[2], p.v[1], rows, TILE, p.d, values + i * tile);
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < blocks * p.b * p.h; i++) {  // the last queries, which see most, first
      int64_t block = blocks - 1 - i / (p.b * p.h), n = i % (p.b * p.h), row = n / p.h, head = n % p.h;
      int64_t pack = (row * p.kv + head / (p.h / p.kv)) * size;
      forward_block(p, q + row * p.q[0] + head * p.q[2], keys + pack, values + pack,
                    first_key ? first_key + row * p.t : nullptr, block * QUERY_BLOCK,
                    out + (row * p.t * p.h + head) * p.d, logsumexp ? logsumexp + n * p.t : nullptr, scratch);
    }
  }
}

}  // namespace

extern "C" {
void attention_forward_f32(const Problem* p, const float* q, const float* k, const float* v, const int64_t* first_key,
                           float* out, float* logsumexp) {
  forward(*p, q, k, v, first_key, out, logsumexp);
}
void attention_backward_f32(const Problem* p, const float* q, const float* k, const float* v, const int64_t* first_key,
                            const float* out, const float* logsumexp, const float* grad, float* grad_q, float* grad_k,
                            float* grad_v) {
  backward(*p, q, k, v, first_key, out, logsumexp, grad, grad_q, grad_k, grad_v);
}
#ifdef __AVX512BF16__
void attention_backward_bf16(const Problem* p, const bf16* q, const bf16* k, const bf16* v, const int64_t* first_key,
                             const bf16* out, const float* logsumexp, const bf16* grad, bf16* grad_q, bf16* grad_k,
                             bf16* grad_v) {
  backward(*p, q, k, v, first_key, out, logsumexp, grad, grad_q, grad_k, grad_v);
}
void attention_forward_bf16(const Problem* p, const bf16* q, const bf16* k, const bf16* v, const int64_t* first_key,
                            bf16* out, float* logsumexp) {
  forward(*p, q, k, v, first_key, out, logsumexp);
}
#endif
}
