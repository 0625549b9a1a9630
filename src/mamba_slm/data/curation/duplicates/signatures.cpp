// Words, hashes, MinHash bands, shingle sets and intersections; the definition is definition.py, equal to the last bit.
//
// Texts are valid UTF-8.

#include "words.h"

namespace {

constexpr int SHINGLE_WORDS = 5, LANES = 16;
typedef uint32_t Lanes __attribute__((vector_size(4 * LANES)));

inline uint64_t load_last(const uint8_t* bytes, int64_t count) {
  uint64_t value = 0;
  std::memcpy(&value, bytes, count);
  return value;
}

struct Sum128 {
  uint64_t high = 0, low = 0;
  inline void add(uint64_t value, uint64_t position) {
    const uint64_t mixed = mix(value + position * GOLDEN);
    high += mixed;
    low += (mixed ^ mixed >> 29) * MULTIPLY_2 ^ mixed >> 32;
  }
  void store(uint64_t length, uint64_t seed, uint64_t* out) const {
    out[0] = mix(high ^ mix(length + seed));
    out[1] = mix(low + mix(length ^ ~seed));
  }
};

void hash_bytes(const uint8_t* text, int64_t size, uint64_t seed, uint64_t* out) {
  Sum128 sum;
  int64_t i = 0;
  uint64_t position = 1;
  for (; i + 8 <= size; i += 8) sum.add(load8(text + i), position++);
  if (i < size) sum.add(load_last(text + i, size - i), position);
  sum.store(size, seed, out);
}

// Word hashes become shingle hashes, in place; returns how many.
int64_t shingle(uint64_t* words, int64_t count, const uint64_t* factors) {
  if (count == 0) return 0;
  const int64_t windows = count < SHINGLE_WORDS ? 1 : count - SHINGLE_WORDS + 1;
  if (count < SHINGLE_WORDS) {
    uint64_t sum = 0;
    for (int64_t k = 0; k < count; ++k) sum += factors[k] * words[k];
    words[0] = mix(sum);
    return 1;
  }
  for (int64_t i = 0; i < windows; ++i)
    words[i] = mix(factors[0] * words[i] + factors[1] * words[i + 1] + factors[2] * words[i + 2] +
                   factors[3] * words[i + 3] + factors[4] * words[i + 4]);
  return windows;
}

template <int N>
void least_of(const uint64_t* shingles, int64_t count, const uint32_t* factors, const uint32_t* flips, uint32_t* out) {
  Lanes factor[N], flip[N], least[N];
  for (int k = 0; k < N; ++k) {
    std::memcpy(&factor[k], factors + LANES * k, sizeof(Lanes));
    std::memcpy(&flip[k], flips + LANES * k, sizeof(Lanes));
    least[k] = ~Lanes{};
  }
  for (int64_t i = 0; i < count; ++i) {
    const Lanes value = Lanes{} + static_cast<uint32_t>(shingles[i]);
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) {
      const Lanes hashed = (value ^ flip[k]) * factor[k];
      least[k] = hashed < least[k] ? hashed : least[k];
    }
  }
  for (int k = 0; k < N; ++k) std::memcpy(out + LANES * k, &least[k], sizeof(Lanes));
}

void minhash(const uint64_t* shingles, int64_t count, const uint32_t* factors, const uint32_t* flips, int64_t lanes,
             uint32_t* out) {
  for (int64_t done = 0; done < lanes;) {
    const int64_t left = lanes - done, take = left >= 7 * LANES ? 7 : left >= 4 * LANES ? 4 : left >= 2 * LANES ? 2 : 1;
    const auto run = take == 7 ? least_of<7> : take == 4 ? least_of<4> : take == 2 ? least_of<2> : least_of<1>;
    run(shingles, count, factors + done, flips + done, out + done);
    done += take * LANES;
  }
}

void band_keys(const uint32_t* values, int64_t bands, int64_t rows, uint64_t* out) {
  for (int64_t band = 0; band < bands; ++band, values += rows) {
    uint64_t key = mix((band + 1) * GOLDEN);
    for (int64_t row = 0; row < rows; row += 2)
      key = mix(key ^ (values[row] | (row + 1 < rows ? static_cast<uint64_t>(values[row + 1]) << 32 : 0)));
    out[band] = key;
  }
}

// Hashes are even, so their first bits put them almost in order.
int64_t sort_unique(const uint64_t* values, int64_t count, uint64_t* out, Scratch<int64_t>& scratch) {
  int bits = 1;
  while ((int64_t{1} << bits) < count && bits < 24) ++bits;
  int64_t* starts = scratch.room((int64_t{1} << bits) + 1);
  std::fill(starts, starts + (int64_t{1} << bits) + 1, 0);
  for (int64_t i = 0; i < count; ++i) ++starts[(values[i] >> (64 - bits)) + 1];
  for (int64_t b = 0; b < int64_t{1} << bits; ++b) starts[b + 1] += starts[b];
  for (int64_t i = 0; i < count; ++i) out[starts[values[i] >> (64 - bits)]++] = values[i];
  for (int64_t i = 1; i < count; ++i) {  // a bucket holds about one
    const uint64_t value = out[i];
    int64_t k = i;
    for (; k > 0 && out[k - 1] > value; --k) out[k] = out[k - 1];
    out[k] = value;
  }
  return std::unique(out, out + count) - out;
}

struct Keyed {
  uint64_t key;
  uint64_t place;
};

// Stable, by key: buckets of the first bits of the distance to `least`, those again, until a bucket holds few.
// The result is in `records`; `spare` is as long.
void sort_keyed(Keyed* records, Keyed* spare, int64_t count, uint64_t least, int width) {
  if (count <= 24 || width == 0) {
    for (int64_t i = 1; i < count && width; ++i) {
      const Keyed record = records[i];
      int64_t k = i;
      for (; k > 0 && records[k - 1].key > record.key; --k) records[k] = records[k - 1];
      records[k] = record;
    }
    return;
  }
  int bits = 1;
  while (bits < 8 && bits < width && (int64_t{8} << bits) < count) ++bits;
  const int shift = width - bits;
  int64_t starts[257] = {};
  for (int64_t i = 0; i < count; ++i) ++starts[((records[i].key - least) >> shift) + 1];
  for (int b = 0; b < 256; ++b) starts[b + 1] += starts[b];
  int64_t next[256];
  std::copy(starts, starts + 256, next);
  for (int64_t i = 0; i < count; ++i) spare[next[(records[i].key - least) >> shift]++] = records[i];
  std::copy(spare, spare + count, records);
  for (int64_t b = 0; b < int64_t{1} << bits; ++b)
    sort_keyed(records + starts[b], spare, starts[b + 1] - starts[b], least + (static_cast<uint64_t>(b) << shift),
               shift);
}

}  // namespace

extern "C" {

// Sort keys, in place, and say where each was; equal ones stay in their order. Returns 0, or 1 when memory is short.
int64_t duplicates_sort(uint64_t* keys, int64_t count, int64_t* places) try {
  Scratch<Keyed> scratch;
  Keyed* records = scratch.room(2 * count);
  uint64_t least = ~uint64_t{0}, largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    records[i] = {keys[i], static_cast<uint64_t>(i)};
    least = std::min(least, keys[i]);
    largest = std::max(largest, keys[i]);
  }
  const int width = count == 0 || least == largest ? 0 : 64 - __builtin_clzll(largest - least);
  sort_keyed(records, records + count, count, least, width);
  for (int64_t i = 0; i < count; ++i) keys[i] = records[i].key, places[i] = records[i].place;
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}


// out[2 * i], out[2 * i + 1]: 128 bits of text i.
void duplicates_hash_bytes(const uint8_t* data, const int64_t* offsets, int64_t texts, uint64_t seed, uint64_t* out) {
  for (int64_t i = 0; i < texts; ++i) hash_bytes(data + offsets[i], offsets[i + 1] - offsets[i], seed, out + 2 * i);
}

// Per text: 128 bits of its words in order, how many there are, one key per band. `lanes` is bands * rows rounded up to
// 16; returns 0, or 1 when memory is short.
int64_t duplicates_sign(const uint8_t* data, const int64_t* offsets, int64_t texts, const uint32_t* table,
                        const uint64_t* word_factors, uint64_t seed, const uint32_t* factors, const uint32_t* flips,
                        int64_t lanes, int64_t bands, int64_t rows, uint64_t* content, int64_t* num_words,
                        uint64_t* keys) try {
  Splitter splitter(table);
  Scratch<uint32_t> scratch;
  uint32_t* values = scratch.room(lanes);
  for (int64_t i = 0; i < texts; ++i) {
    int64_t count;
    uint64_t* words = splitter.split(data + offsets[i], offsets[i + 1] - offsets[i], &count);
    Sum128 sum;
    for (int64_t k = 0; k < count; ++k) sum.add(words[k], k + 1);
    sum.store(count, seed, content + 2 * i);
    num_words[i] = count;
    minhash(words, shingle(words, count, word_factors), factors, flips, lanes, values);
    band_keys(values, bands, rows, keys + i * bands);
  }
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// The sorted shingle set of each text, one after the other; sizes[i] of text i. `out` has room for a shingle per two
// bytes of text, and one more per text. Returns 0, or 1 when memory is short.
int64_t duplicates_shingles(const uint8_t* data, const int64_t* offsets, int64_t texts, const uint32_t* table,
                            const uint64_t* word_factors, uint64_t* out, int64_t* sizes) try {
  Splitter splitter(table);
  Scratch<int64_t> starts;
  for (int64_t i = 0; i < texts; ++i) {
    int64_t count;
    uint64_t* words = splitter.split(data + offsets[i], offsets[i + 1] - offsets[i], &count);
    sizes[i] = sort_unique(words, shingle(words, count, word_factors), out, starts);
    out += sizes[i];
  }
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// How many shingles two sorted sets share, for each pair of numbers of sets.
void duplicates_shared(const uint64_t* shingles, const int64_t* offsets, const int64_t* first, const int64_t* second,
                       int64_t pairs, int64_t* out) {
  for (int64_t p = 0; p < pairs; ++p) {
    const uint64_t *a = shingles + offsets[first[p]], *a_end = shingles + offsets[first[p] + 1];
    const uint64_t *b = shingles + offsets[second[p]], *b_end = shingles + offsets[second[p] + 1];
    int64_t shared = 0;
    while (a < a_end && b < b_end) {
      const uint64_t x = *a, y = *b;
      shared += x == y;
      a += x <= y;
      b += y <= x;
    }
    out[p] = shared;
  }
}

}  // extern "C"
