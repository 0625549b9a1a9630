// The Mamba-2 scan over chunks of 64 positions, head by head, in float32, and its gradient.
//
// Within a chunk and a document, a[i] is the running sum of the logarithms of the decays. With L = exp(a[i] - a[j]) for
// j <= i and S = L (C Bt), and H the state before the chunk (0 for positions of a document that begins in the chunk):
//   Y = S X + exp(a) C H + D x,   H' = exp(a[end]) H + Bt (exp(a[end] - a) X),   X = dt x
// States are kept as [n p], so that all products but C Bt and those of gradients with X and grad Y read their second
// factor along its rows; those two are transposed once per chunk. A step whose decay is 0 in float32 begins a "document"
// too, so that no difference of large sums decides anything.
// The decay at i scales all that passes from before i to i or later, so the gradient of its logarithm is the sum of
//   grad Y[k] · S[k,j] X[j] for j < i <= k,  grad Y[k] · (what Y[k] reads of H) for k >= i,
//   grad H' · (what X[j] adds to H') for j < i,  and grad H' · (what H' keeps of H).
#include "scan_chunks.h"

template <int V>
static void forward_heads(const float* x, const float* dt, const float* A, const float* B, const float* C,
                          const float* D, const float* first, const int64_t* ids, float* y, float* last, float* states,
                          const Sizes& s, int64_t row, int64_t group, int64_t left, int64_t right) {
  Chunk chunk(s);
  Decays decays;
  Floats H((right - left) * s.n * s.p), X(Q * s.p), S(Q * Q);
  if (first)
    for (int64_t h = left; h < right; h++)
      transpose(first + (row * s.heads + h) * s.p * s.n, s.n, H.data() + (h - left) * s.n * s.p, s.p, s.p, s.n);
  for (int64_t number = 0; number < s.chunks(); number++) {
    chunk.read(B + row * s.b_row + group * s.n, C + row * s.c_row + group * s.n, ids ? ids + row * s.t : nullptr, number);
    for (int64_t h = left; h < right; h++) {
      float* state = H.data() + (h - left) * s.n * s.p;
      if (states)
        std::memcpy(states + ((row * s.chunks() + number) * s.heads + h) * s.n * s.p, state, s.n * s.p * sizeof(float));
      decays.read(dt + row * s.dt_row + chunk.start * s.dt_step + h, s.dt_step, chunk.rows, A[h], chunk.ids,
                  chunk.starts);
      const float* from = x + row * s.x_row + chunk.start * s.x_step + h * s.p;
      const float skip = D ? D[h] : 0;
      copy_rows(from, s.x_step, chunk.rows, X.data(), s.p);
      scale_rows(X.data(), decays.dt, X.data(), s.p);
      decayed_products(chunk, decays, S.data(), nullptr);
      for (int64_t i = 0; i < chunk.rows; i += 4) {
        f16 inside[4][V];
        four_rows<V>(S.data() + i * Q, Q, 1, X.data(), s.p, decays.first[i], i + 4,
                     [&](f16(&acc)[4][V]) { std::memcpy(inside, acc, sizeof inside); });
        four_rows<V>(chunk.C.data() + i * s.n, s.n, 1, state, s.p, 0, i < decays.first_stop ? s.n : 0,
                     [&](f16(&acc)[4][V]) {
                       for (int64_t r = 0; r < std::min<int64_t>(4, chunk.rows - i); r++)
                         for (int v = 0; v < V; v++)
                           store(y + ((row * s.t + chunk.start + i + r) * s.heads + h) * s.p + v * LANES,
                                 inside[r][v] + decays.before[i + r] * acc[r][v] +
                                     skip * load(from + (i + r) * s.x_step + v * LANES));
                     });
      }
      scale_rows(X.data(), decays.behind, X.data(), s.p);
      move_on<V>(state, decays.carried, chunk.B.data(), X.data(), s, decays.last_start, Q);
    }
  }
  for (int64_t h = left; h < right; h++)
    transpose(H.data() + (h - left) * s.n * s.p, s.p, last + (row * s.heads + h) * s.p * s.n, s.n, s.n, s.p);
}

static float dot(const float* a, const float* b, int64_t count) {
  f16 total[4] = {};
  for (int64_t i = 0; i < count; i += 4 * LANES)
    for (int v = 0; v < 4; v++) total[v] += load(a + i + v * LANES) * load(b + i + v * LANES);
  return sum((total[0] + total[1]) + (total[2] + total[3]));
}

// The four sums at the top, in this order; no two of their terms cancel. M[k,j] = grad Y[k] · S[k,j] X[j].
static void gradients_of_decays(const float* M, const f16* reads, const f16* adds, float kept, float* found) {
  const i16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  f16 below[4] = {};  // of each column, from row i on
  float later = 0, earlier = 0;
  for (int i = Q - 1; i >= 0; i--) {
    f16 total{};
    for (int v = 0; v < 4; v++) {
      below[v] += load(M + i * Q + v * LANES);
      total += lane + v * LANES < i ? below[v] : f16{};
    }
    later += reads[i / LANES][i % LANES];
    found[i] = sum(total) + later + kept;
  }
  for (int i = 0; i < Q; i++) {
    found[i] += earlier;
    earlier += adds[i / LANES][i % LANES];
  }
}

template <int V>
static void backward_heads(const float* x, const float* dt, const float* A, const float* B, const float* C,
                           const float* D, const int64_t* ids, const float* states, const float* grad_y,
                           int64_t grad_row, int64_t grad_step, const float* grad_last, float* grad_x, float* grad_dt,
                           float* grad_A, float* grad_B, float* grad_C, float* grad_D, float* grad_first, const Sizes& s, int64_t row, int64_t group,
                           int64_t left, int64_t right) {
  const int64_t size = s.n * s.p;
  Chunk chunk(s);
  Decays decays;
  Floats gH((right - left) * size), X(Q * s.p), Xt(Q * s.p), gY(Q * s.p), gYt(Q * s.p), S(Q * Q), L(Q * Q), M(Q * Q),
      gG(Q * Q), gBt(Q * s.n), gCt(Q * s.n), lines(Q * s.n);
  for (int64_t h = left; h < right; h++) {
    const int64_t at = (row * s.heads + h) * size;
    if (grad_last) transpose(grad_last + at, s.n, gH.data() + (h - left) * size, s.p, s.p, s.n);
    grad_A[row * s.heads + h] = 0;
    if (D) grad_D[row * s.heads + h] = 0;
  }
  for (int64_t number = s.chunks() - 1; number >= 0; number--) {
    chunk.read(B + row * s.b_row + group * s.n, C + row * s.c_row + group * s.n, ids ? ids + row * s.t : nullptr, number);
    transpose(chunk.C.data(), s.n, chunk.Ct.data(), Q, Q, s.n);
    std::fill_n(gG.data(), Q * Q, 0.0f);
    std::fill_n(gBt.data(), Q * s.n, 0.0f);
    std::fill_n(gCt.data(), Q * s.n, 0.0f);
    for (int64_t h = left; h < right; h++) {
      const float* from = x + row * s.x_row + chunk.start * s.x_step + h * s.p;
      const float* H = states + ((row * s.chunks() + number) * s.heads + h) * size;
      float* state = gH.data() + (h - left) * size;
      decays.read(dt + row * s.dt_row + chunk.start * s.dt_step + h, s.dt_step, chunk.rows, A[h], chunk.ids,
                  chunk.starts);
      copy_rows(from, s.x_step, chunk.rows, X.data(), s.p);
      scale_rows(X.data(), decays.dt, X.data(), s.p);
      copy_rows(grad_y + row * grad_row + chunk.start * grad_step + h * s.p, grad_step, chunk.rows, gY.data(), s.p);
      transpose(X.data(), s.p, Xt.data(), Q, Q, s.p);
      transpose(gY.data(), s.p, gYt.data(), Q, Q, s.p);
      decayed_products(chunk, decays, S.data(), L.data());

      for (int64_t i = 0; i < Q; i += 4)
        four_rows<4>(gY.data() + i * s.p, s.p, 1, Xt.data(), Q, 0, s.p, [&](f16(&acc)[4][4]) {
          for (int r = 0; r < 4; r++)
            for (int v = 0; v < 4; v++) {
              const int64_t at = (i + r) * Q + v * LANES;
              store(M.data() + at, load(S.data() + at) * acc[r][v]);
              store(gG.data() + at, load(gG.data() + at) + load(L.data() + at) * acc[r][v]);
            }
        });

      f16 reads[4] = {}, adds[4] = {};  // of H, and to H', by position
      for (int64_t k = 0; decays.first_stop && k < s.n; k += 4)
        four_rows<4>(H + k * s.p, s.p, 1, gYt.data(), Q, 0, s.p, [&](f16(&acc)[4][4]) {
          for (int v = 0; v < 4; v++) {
            const f16 before = load(decays.before + v * LANES);
            for (int r = 0; r < 4; r++) {
              float* at = gCt.data() + (k + r) * Q + v * LANES;
              f16 scaled = before * acc[r][v];
              store(at, load(at) + scaled);
              reads[v] += scaled * load(chunk.Ct.data() + (k + r) * Q + v * LANES);
            }
          }
        });
      for (int64_t k = 0; k < s.n; k += 4)
        four_rows<4>(state + k * s.p, s.p, 1, Xt.data(), Q, 0, s.p, [&](f16(&acc)[4][4]) {
          for (int v = 0; v < 4; v++) {
            const f16 behind = load(decays.behind + v * LANES);
            for (int r = 0; r < 4; r++) {
              float* at = gBt.data() + (k + r) * Q + v * LANES;
              f16 scaled = behind * acc[r][v];
              store(at, load(at) + scaled);
              adds[v] += scaled * load(chunk.Bt.data() + (k + r) * Q + v * LANES);
            }
          }
        });

      const float skip = D ? D[h] : 0;
      f16 of_skip{};
      float of_dt[Q];
      for (int64_t j = 0; j < chunk.rows; j += 4) {
        f16 inside[4][V];
        four_rows<V>(S.data() + j, 1, Q, gY.data(), s.p, j, Q,
                     [&](f16(&acc)[4][V]) { std::memcpy(inside, acc, sizeof inside); });
        four_rows<V>(chunk.B.data() + j * s.n, s.n, 1, state, s.p, 0, j + 3 < decays.last_start ? 0 : s.n,
                     [&](f16(&acc)[4][V]) {
                       for (int64_t r = 0; r < std::min<int64_t>(4, chunk.rows - j); r++) {
                         f16 total{};
                         for (int v = 0; v < V; v++) {
                           f16 g = inside[r][v] + decays.behind[j + r] * acc[r][v];
                           const f16 here = load(from + (j + r) * s.x_step + v * LANES);
                           const f16 above = load(gY.data() + (j + r) * s.p + v * LANES);
                           total += g * here;
                           of_skip += above * here;
                           store(grad_x + ((row * s.t + chunk.start + j + r) * s.heads + h) * s.p + v * LANES,
                                 decays.dt[j + r] * g + skip * above);
                         }
                         of_dt[j + r] = sum(total);
                       }
                     });
      }

      if (D) grad_D[row * s.heads + h] += sum(of_skip);
      float of_decay[Q];
      gradients_of_decays(M.data(), reads, adds, decays.carried ? decays.carried * dot(state, H, size) : 0, of_decay);
      for (int64_t i = 0; i < chunk.rows; i++) {
        grad_dt[(row * s.t + chunk.start + i) * s.heads + h] = of_dt[i] + of_decay[i] * A[h];
        grad_A[row * s.heads + h] += of_decay[i] * decays.dt[i];
      }

      scale_rows(gY.data(), decays.before, gY.data(), s.p);
      move_on<V>(state, decays.carried, chunk.C.data(), gY.data(), s, 0, decays.first_stop);
    }
    for (int64_t first = 0; first < s.n; first += Q) {  // gG is shared: its products with B and C come once
      const int64_t columns = std::min(Q, s.n - first);
      for (int which = 0; which < 2; which++) {
        const float* transposed = (which ? gCt : gBt).data() + first * Q;
        const float* factor = (which ? chunk.B : chunk.C).data() + first;
        float* into = (which ? grad_C : grad_B) + ((row * s.t + chunk.start) * s.groups + group) * s.n + first;
        transpose(transposed, Q, lines.data(), columns, columns, Q);
        for (int64_t i = 0; i < chunk.rows; i += 4)
          for (int64_t column = 0; column < columns; column += LANES)
            four_rows<1>(which ? gG.data() + i * Q : gG.data() + i, which ? Q : 1, which ? 1 : Q, factor + column, s.n,
                         which ? 0 : i, which ? i + 4 : Q, [&](f16(&acc)[4][1]) {
                           for (int64_t r = 0; r < std::min<int64_t>(4, chunk.rows - i); r++)
                             store(into + (i + r) * s.groups * s.n + column,
                                   acc[r][0] + load(lines.data() + (i + r) * columns + column));
                         });
      }
    }
  }
  for (int64_t h = left; grad_first && h < right; h++)
    transpose(gH.data() + (h - left) * size, s.p, grad_first + (row * s.heads + h) * size, s.n, s.n, s.p);
}

// work(row, group, part, left, right): some heads of a group of a row.
template <class Work>
static void share(const Sizes& s, Work work) {
  const int64_t each = s.heads / s.groups;
#pragma omp parallel for schedule(static)
  for (int64_t item = 0; item < s.b * s.groups * s.parts; item++) {
    const int64_t row = item / s.parts / s.groups, group = item / s.parts % s.groups, part = item % s.parts;
    work(row, group, part, group * each + part * each / s.parts, group * each + (part + 1) * each / s.parts);
  }
}

template <class F>
static void by_width(int64_t p, F f) {
  if (p == 64) f(std::integral_constant<int, 4>());
  if (p == 48) f(std::integral_constant<int, 3>());
  if (p == 32) f(std::integral_constant<int, 2>());
  if (p == 16) f(std::integral_constant<int, 1>());
}

extern "C" {
void scan_forward(const float* x, const float* dt, const float* A, const float* B, const float* C, const float* D,
                  const float* first, const int64_t* ids, float* y, float* last, float* states, const int64_t* sizes) {
  const Sizes s = *reinterpret_cast<const Sizes*>(sizes);
  share(s, [&](int64_t row, int64_t group, int64_t, int64_t left, int64_t right) {
    by_width(s.p, [&](auto V) {
      forward_heads<decltype(V)::value>(x, dt, A, B, C, D, first, ids, y, last, states, s, row, group, left, right);
    });
  });
}

// grad_B, grad_C: [parts b t g n], to be summed over the parts; grad_A, grad_D: [b h]. D may be null, as may first and ids.
void scan_backward(const float* x, const float* dt, const float* A, const float* B, const float* C, const float* D,
                   const int64_t* ids, const float* states, const float* grad_y, int64_t grad_row, int64_t grad_step,
                   const float* grad_last, float* grad_x, float* grad_dt, float* grad_A, float* grad_B, float* grad_C,
                   float* grad_D, float* grad_first, const int64_t* sizes) {
  const Sizes s = *reinterpret_cast<const Sizes*>(sizes);
  share(s, [&](int64_t row, int64_t group, int64_t part, int64_t left, int64_t right) {
    const int64_t skip = part * s.b * s.t * s.groups * s.n;
    by_width(s.p, [&](auto V) {
      backward_heads<decltype(V)::value>(x, dt, A, B, C, D, ids, states, grad_y, grad_row, grad_step, grad_last,
                                         grad_x, grad_dt, grad_A, grad_B + skip, grad_C + skip, grad_D, grad_first, s,
                                         row, group, left, right);
    });
  });
}
}
