// What both directions of attention share: the problem, powers, and which keys a strip of queries sees.
#pragma once
#include <cmath>
#include "products.h"

extern "C" {
struct Problem {
  int64_t b, t, s, h, kv, d;
  int64_t q[3], k[3], v[3];  // strides of batch, time and head, in values; the last axis lies side by side
};
}

namespace {

constexpr float LN2 = 0.69314718055994531f;
constexpr float UNSEEN = -1e30f, LOWEST = -1e20f;  // score of a key that is not seen; least largest score of a row

// Powers of 2 for bfloat16, whose weights are rounded at 2^-9 of their size; of e, exactly, for float32.
template <class T>
constexpr float BASE = PER_WORD<T> == 2 ? LN2 : 1.0f;  // natural logarithm of the base

template <class T>
inline f16 power(f16 x) {
  if constexpr (PER_WORD<T> == 2) {
    f16 whole = (f16)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    f16 rest = x - whole;  // within 1/2; minimax polynomial of degree 4, off by 4e-6 of the result
    f16 p = splat(0.0096164f) * rest + 0.0555041f;
    p = p * rest + 0.2402265f;
    p = p * rest + 0.6931472f;
    p = p * rest + 1.0f;
    return (f16)_mm512_scalef_ps((__m512)p, (__m512)whole);
  }
  return exp(x);
}

// The keys that the rows of a strip (ROWS queries) see.
struct Strip {
  int64_t first[ROWS], last[ROWS];
  int64_t any_first, any_last, all_first, all_last;  // seen by any of its rows, seen by all

  Strip(const Problem& p, const int64_t* first_key, int64_t row)
      : any_first(p.s), any_last(-1), all_first(0), all_last(p.s) {
    for (int r = 0; r < ROWS; r++, row++) {
      bool is_row = row < p.t;
      first[r] = !is_row ? p.s : first_key ? larger(first_key[row], 0) : 0;
      last[r] = is_row ? p.s - p.t + row : -1;
      if (is_row) any_first = smaller(any_first, first[r]), any_last = last[r];
      all_first = larger(all_first, first[r]), all_last = smaller(all_last, last[r]);
    }
  }
};

const i16 LANE = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

inline i16 is_seen(const Strip& strip, int r, int64_t key) {
  i16 keys = LANE + int32_t(key);
  return (keys >= int32_t(strip.first[r])) & (keys <= int32_t(strip.last[r]));
}

}  // namespace
