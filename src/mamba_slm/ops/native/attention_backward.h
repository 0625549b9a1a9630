// Backward: weights again from the saved logarithms, then in one pass over blocks of keys
//   grad_v += weightsT grad, grad_weights = grad vT, grad_scores = weights (grad_weights - sum(grad out)),
//   grad_k += grad_scoresT q, grad_q += grad_scores k.
#pragma once
#include <omp.h>
#include "attention_strips.h"

namespace {

constexpr int64_t BACK_QUERIES = 192, BACK_KEYS = 3 * TILE, COLUMNS = BACK_KEYS + 16;

// Two rows of values as words down columns, for products that sum over rows; for float32 they are stored as they are.
template <class T>
inline void store_columns(word* to, f16 first, f16 second) {
#ifdef __AVX512BF16__
  if constexpr (PER_WORD<T> == 2) {
    alignas(64) static const uint16_t ORDER[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                   8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(ORDER), both));
    return;
  }
#endif
  store((float*)to, first);
  store((float*)to + COLUMNS, second);
}

template <class T>
struct BackwardScratch {
  const int64_t rows, d, words;
  Buffer<word> q, grad, q_pairs, grad_pairs;            // of one head
  Buffer<float> log_sums, dots, grad_q;                 // of one head
  Buffer<float> scores, grad_weights;                   // of a strip
  Buffer<T> grad_scores;                                // of a strip, in rows
  Buffer<word> weight_columns, grad_score_columns;      // of a block
  Buffer<float> grad_k, grad_v;                         // of a block of keys
  static constexpr int64_t KEYS = (BACK_KEYS + ROWS - 1) / ROWS * ROWS;
  BackwardScratch(int64_t t, int64_t d)
      : rows(round_up(t, ROWS)), d(d), words(d / PER_WORD<T>), q(rows * words), grad(rows * words),
        q_pairs(rows * words), grad_pairs(rows * words), log_sums(rows), dots(rows), grad_q(rows * d),
        scores(ROWS * BACK_KEYS), grad_weights(ROWS * BACK_KEYS), grad_scores(ROWS * BACK_KEYS),
        weight_columns(BACK_QUERIES * COLUMNS), grad_score_columns(BACK_QUERIES * COLUMNS), grad_k(KEYS * d),
        grad_v(KEYS * d) {
    std::memset(weight_columns, 0, BACK_QUERIES * COLUMNS * sizeof(word));
    std::memset(grad_score_columns, 0, BACK_QUERIES * COLUMNS * sizeof(word));
  }
};

// Columns `from` to `to` of a strip: scores to weights, and their gradients.
template <class T>
inline void weigh(const Strip& strip, int64_t key, int64_t from, int64_t to, float factor, const float* log_sums,
                  const float* dots, BackwardScratch<T>& scratch, word* weight_columns, word* grad_columns) {
  constexpr int P = PER_WORD<T>;
  bool is_edge = key + from < strip.all_first || key + to - 1 > strip.all_last;
  for (int r = 0; r < ROWS; r += 2)
    for (int64_t c = from; c < to; c += LANES) {
      f16 weight[2], grad[2];
      for (int i = 0; i < 2; i++) {
        const int64_t at = (r + i) * BACK_KEYS + c;
        weight[i] = power<T>(load(scratch.scores + at) * factor - log_sums[r + i]);
        grad[i] = weight[i] * (load(scratch.grad_weights + at) - dots[r + i]);
        if (is_edge) {
          i16 seen = is_seen(strip, r + i, key + c);
          weight[i] = seen ? weight[i] : splat(0), grad[i] = seen ? grad[i] : splat(0);
        }
        if (P == 2) store(scratch.grad_scores + at, grad[i]);
      }
      store_columns<T>(weight_columns + r / P * COLUMNS + c, weight[0], weight[1]);
      store_columns<T>(grad_columns + r / P * COLUMNS + c, grad[0], grad[1]);
    }
}

// What one head gives to the gradients of its keys and values from `begin` to `end`; adds to scratch.grad_q.
template <class T>
void backward_keys(const Problem& p, const word* keys, const word* values, const word* key_pairs,
                   const Strip* strips, int64_t begin, int64_t end, float* grad_k, float* grad_v,
                   BackwardScratch<T>& scratch) {
  constexpr int P = PER_WORD<T>;
  constexpr int64_t BLOCK = BACK_QUERIES / ROWS, STEP = ROWS / P;
  const int64_t d = p.d, words = d / P, count = scratch.rows / ROWS;
  const float factor = 1 / (std::sqrt(float(d)) * BASE<T>);
  for (int64_t key = begin; key < end; key += BACK_KEYS) {
    const int64_t width = smaller(BACK_KEYS, round_up(end - key, LANES));
    std::memset(scratch.grad_k, 0, BackwardScratch<T>::KEYS * d * sizeof(float));
    std::memset(scratch.grad_v, 0, BackwardScratch<T>::KEYS * d * sizeof(float));
    int64_t strip = larger(key - (p.s - p.t), 0) / ROWS, stop = count;
    while (stop > strip && strips[stop - 1].any_first >= key + width) stop--;
    for (; strip < stop; strip += BLOCK) {
      const int64_t here = smaller(BLOCK, stop - strip);
      int64_t from[BLOCK], to[BLOCK];
      for (int64_t i = 0; i < here; i++) {
        const Strip& seen = strips[strip + i];
        const int64_t row = (strip + i) * ROWS;
        word* weight_columns = scratch.weight_columns + i * STEP * COLUMNS;
        word* grad_columns = scratch.grad_score_columns + i * STEP * COLUMNS;
        from[i] = larger(seen.any_first - key, 0) / LANES * LANES;
        to[i] = smaller(round_up(seen.any_last + 1 - key, LANES), width);
        if (from[i] > 0 || to[i] < width) {
          std::memset(weight_columns, 0, STEP * COLUMNS * sizeof(word));
          std::memset(grad_columns, 0, STEP * COLUMNS * sizeof(word));
        }
        if (from[i] >= to[i]) continue;
        const int64_t vectors = (to[i] - from[i]) / LANES;
        product_with_tiles<T>(scratch.q + row * words, words, keys, key + from[i], words, scratch.scores + from[i],
                              BACK_KEYS, vectors);
        product_with_tiles<T>(scratch.grad + row * words, words, values, key + from[i], words,
                              scratch.grad_weights + from[i], BACK_KEYS, vectors);
        weigh<T>(seen, key, from[i], to[i], factor, scratch.log_sums + row, scratch.dots + row, scratch,
                 weight_columns, grad_columns);
        const word* in_rows = P == 2 ? (word*)scratch.grad_scores.data : grad_columns;
        const int64_t stride = P == 2 ? BACK_KEYS / P : COLUMNS;
        product<T, IN_ROWS, FROM_C>(in_rows + from[i] / P, stride, key_pairs + (key + from[i]) / P * d, d,
                                    (to[i] - from[i]) / P, scratch.grad_q + row * d, d, d / LANES);
      }
      for (int64_t c = 0; c < width; c += ROWS) {  // ROWS keys, and the strips that see them
        int64_t first = 0, last = here;
        while (first < last && (to[first] <= c || from[first] >= c + ROWS)) first++;
        while (last > first && (to[last - 1] <= c || from[last - 1] >= c + ROWS)) last--;
        const int64_t at = (strip + first) * STEP * d, steps = (last - first) * STEP, skip = first * STEP * COLUMNS + c;
        product<T, IN_COLUMNS, FROM_C>(scratch.weight_columns + skip, COLUMNS, scratch.grad_pairs + at, d, steps,
                                       scratch.grad_v + c * d, d, d / LANES);
        product<T, IN_COLUMNS, FROM_C>(scratch.grad_score_columns + skip, COLUMNS, scratch.q_pairs + at, d, steps,
                                       scratch.grad_k + c * d, d, d / LANES);
      }
    }
    for (int64_t i = 0; i < smaller(width, p.s - key) * d; i++) {
      grad_k[key * d + i] += scratch.grad_k[i];
      grad_v[key * d + i] += scratch.grad_v[i];
    }
  }
}

// Everything of one head that the blocks of keys read.
template <class T>
void pack_head(const Problem& p, const T* q, const T* out, const T* grad, const float* logsumexp,
               BackwardScratch<T>& scratch) {
  const int64_t d = p.d, stride = p.h * d;
  pack_rows(q, p.q[1], p.t, scratch.rows, d, scratch.q);
  pack_pairs(q, p.q[1], p.t, scratch.rows, d, scratch.q_pairs);
  pack_rows(grad, stride, p.t, scratch.rows, d, scratch.grad);
  pack_pairs(grad, stride, p.t, scratch.rows, d, scratch.grad_pairs);
  std::memset(scratch.grad_q, 0, scratch.rows * d * sizeof(float));
  for (int64_t i = 0; i < scratch.rows; i++) {
    f16 total = splat(0);
    if (i < p.t)
      for (int64_t j = 0; j < d; j += LANES) total += load(out + i * stride + j) * load(grad + i * stride + j);
    scratch.dots[i] = sum(total);
    scratch.log_sums[i] = i < p.t ? logsumexp[i] / BASE<T> : 0;
  }
}

// The sum of `count` arrays of rows, `apart` values from each other, times `factor`.
template <class T>
void sum_up(const float* x, int64_t count, int64_t apart, float factor, int64_t rows, int64_t d, T* to,
            int64_t stride) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < d; j += LANES) {
      f16 total = load(x + i * d + j);
      for (int64_t n = 1; n < count; n++) total += load(x + n * apart + i * d + j);
      store(to + i * stride + j, total * factor);
    }
}

// Every task adds up alone, in an order of its own; what several tasks found is summed afterwards, always in the same
// order. A task is `together` heads that share keys, and one of `pieces` of the keys.
template <class T>
void backward(const Problem& p, const T* q, const T* k, const T* v, const int64_t* first_key, const T* out,
              const float* logsumexp, const T* grad, T* grad_q, T* grad_k, T* grad_v) {
  const int64_t d = p.d, s = round_up(p.s, TILE), size = s * d / PER_WORD<T>, tiles = s / TILE, tile = size / tiles;
  const int64_t shared = p.b * p.kv, group = p.h / p.kv, threads = omp_get_max_threads();
  const int64_t together = shared % threads == 0 || shared >= 4 * threads ? group : 1;
  const int64_t parts = group / together, blocks = (p.s + BACK_KEYS - 1) / BACK_KEYS;
  const bool is_even = shared * parts % threads == 0 || shared * parts >= 4 * threads;
  const int64_t wanted = is_even ? 1 : smaller(blocks, (4 * threads + shared * parts - 1) / (shared * parts));
  const int64_t piece = (blocks + wanted - 1) / wanted * BACK_KEYS, pieces = (p.s + piece - 1) / piece;
  const int64_t strips = round_up(p.t, ROWS) / ROWS, in_q = p.b * p.h * p.t * d;
  const float scale = 1 / std::sqrt(float(d));
  Buffer<word> keys(shared * size), values(shared * size), key_pairs(shared * size);
  Buffer<float> sums_k(shared * parts * p.s * d), sums_v(shared * parts * p.s * d);
  Buffer<float> sums_q(pieces > 1 ? pieces * in_q : 0);
  Buffer<Strip> seen(p.b * strips);
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < p.b * strips; i++)
      seen[i] = Strip(p, first_key ? first_key + i / strips * p.t : nullptr, i % strips * ROWS);
#pragma omp for schedule(dynamic, 4)
    for (int64_t i = 0; i < shared * tiles; i++) {
      int64_t n = i / tiles, at = i % tiles * TILE, row = n / p.kv, head = n % p.kv, rows = smaller(TILE, p.s - at);
      const T* key = k + row * p.k[0] + at * p.k[1] + head * p.k[2];
      pack_transposed(key, p.k[1], rows, TILE, d, keys + i * tile);
      pack_pairs(key, p.k[1], rows, TILE, d, key_pairs + i * tile);
      pack_transposed(v + row * p.v[0] + at * p.v[1] + head * p.v[2], p.v[1], rows, TILE, d, values + i * tile);
    }
    BackwardScratch<T> scratch(p.t, d);
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < shared * parts * pieces; i++) {
      const int64_t at = i % pieces, n = i / pieces, pack = n / parts * size, row = n / parts / p.kv;
      const int64_t begin = at * piece, end = smaller(begin + piece, p.s);
      float *here_k = sums_k + n * p.s * d, *here_v = sums_v + n * p.s * d;
      std::memset(here_k + begin * d, 0, (end - begin) * d * sizeof(float));
      std::memset(here_v + begin * d, 0, (end - begin) * d * sizeof(float));
      for (int64_t j = 0; j < together; j++) {
        const int64_t head = n % (p.kv * parts) * together + j, line = (row * p.t * p.h + head) * d;
        pack_head(p, q + row * p.q[0] + head * p.q[2], out + line, grad + line, logsumexp + (row * p.h + head) * p.t,
                  scratch);
        backward_keys<T>(p, keys + pack, values + pack, key_pairs + pack, seen + row * strips, begin, end, here_k,
                         here_v, scratch);
        if (pieces == 1)
          sum_up<T>(scratch.grad_q, 1, 0, scale, p.t, d, grad_q + line, p.h * d);
        else
          std::memcpy(sums_q + at * in_q + (row * p.h + head) * p.t * d, scratch.grad_q, p.t * d * sizeof(float));
      }
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < shared; i++) {
      const int64_t from = i * parts * p.s * d, to = (i / p.kv * p.s * p.kv + i % p.kv) * d;
      sum_up<T>(sums_k + from, parts, p.s * d, scale, p.s, d, grad_k + to, p.kv * d);
      sum_up<T>(sums_v + from, parts, p.s * d, 1, p.s, d, grad_v + to, p.kv * d);
    }
    if (pieces > 1) {
#pragma omp for schedule(static)
      for (int64_t i = 0; i < p.b * p.h; i++)
        sum_up<T>(sums_q + i * p.t * d, pieces, in_q, scale, p.t, d, grad_q + (i / p.h * p.t * p.h + i % p.h) * d,
                  p.h * d);
    }
  }
}

}  // namespace
