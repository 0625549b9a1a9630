// Phrases in texts: definition.py's `find_all` and `find_longest`, equal to the last bit.
//
// The first words of a phrase are looked up in a filter that mostly stays in the cache; only where it says "perhaps" are
// phrases of each length hashed and searched.

#include "../duplicates/words.h"

namespace {

constexpr int64_t AHEAD = 32;  // anchors whose places in the filter are fetched together

// Sorted numbers, and where those with the same first bits begin.
struct Sorted {
  const uint64_t* numbers;
  const uint32_t* buckets;
  int64_t bucket_bits;

  int64_t place_of(uint64_t number) const {
    const uint64_t bucket = number >> (64 - bucket_bits);
    for (uint32_t i = buckets[bucket]; i < buckets[bucket + 1]; ++i)
      if (numbers[i] == number) return i;
    return -1;
  }
};

struct Phrases {
  const uint64_t* factors;
  const uint64_t* filter;
  int64_t filter_bits, anchor_words;
  Sorted beginnings, wholes;
  const uint32_t* lengths_of_beginnings;

  uint64_t sum(const uint64_t* words, int64_t count) const {
    uint64_t total = 0;
    for (int64_t k = 0; k < count; ++k) total += factors[k] * words[k];
    return total;
  }

  uint64_t place_in_filter(uint64_t anchor) const { return anchor >> (64 - filter_bits); }

  bool may_begin(uint64_t anchor) const {
    const uint64_t bits = uint64_t{1} << (anchor & 63) | uint64_t{1} << (anchor >> 6 & 63);
    return (filter[place_in_filter(anchor)] & bits) == bits;
  }

  // Calls found(place of the first word, phrase) in order: of all, or of the longest from left to right.
  template <typename Found>
  void each(const uint64_t* words, int64_t count, bool overlapping, Found found) const {
    int64_t next = 0;  // the first word behind the last phrase
    uint64_t hashed[AHEAD];
    for (int64_t block = 0; block + anchor_words <= count; block += AHEAD) {
      const int64_t size = std::min(AHEAD, count - anchor_words + 1 - block);
      for (int64_t i = 0; i < size; ++i) hashed[i] = mix(sum(words + block + i, anchor_words));
      for (int64_t i = 0; i < size; ++i) __builtin_prefetch(filter + place_in_filter(hashed[i]));
      for (int64_t i = 0; i < size; ++i) {
        const int64_t place = block + i;
        if (place < next || !may_begin(hashed[i])) continue;
        const int64_t beginning = beginnings.place_of(hashed[i]);
        if (beginning < 0) continue;
        for (uint32_t lengths = lengths_of_beginnings[beginning]; lengths;) {
          const int64_t length = 31 - __builtin_clz(lengths);  // the longest first
          lengths ^= uint32_t{1} << length;
          if (place + length > count) continue;
          const int64_t phrase = wholes.place_of(mix(sum(words + place, length) + length * GOLDEN));
          if (phrase < 0) continue;
          found(place, phrase);
          if (overlapping) continue;
          next = place + length;
          break;
        }
      }
    }
  }
};

}  // namespace

extern "C" {

// The hashes of the words of all texts one after another; starts[i] is where those of text i begin, starts[texts] where
// the last ones end. `words` has room for half of the bytes and one per text. Returns 0, or -1 when memory is short.
int64_t phrases_split(const uint8_t* data, const int64_t* offsets, int64_t texts, const uint32_t* table,
                      uint64_t* words, int64_t* starts) try {
  Splitter splitter(table);
  starts[0] = 0;
  for (int64_t text = 0; text < texts; ++text) {
    int64_t count;
    const uint64_t* found = splitter.split(data + offsets[text], offsets[text + 1] - offsets[text], &count);
    std::memcpy(words + starts[text], found, count * sizeof(uint64_t));
    starts[text + 1] = starts[text] + count;
  }
  return 0;
} catch (const std::bad_alloc&) {
  return -1;
}

// Occurrences in order: text, number of the first word, phrase. With `overlapping` all, else the longest from left to
// right. The outputs have room for one per word of the texts and, if overlapping, per length. Returns how many.
int64_t phrases_find(const uint64_t* words, const int64_t* starts, int64_t texts, const uint64_t* factors,
                     const uint64_t* filter, int64_t filter_bits, int64_t anchor_words, const uint64_t* anchors,
                     const uint32_t* anchor_buckets, int64_t anchor_bits, const uint32_t* anchor_lengths,
                     const uint64_t* hashes, const uint32_t* hash_buckets, int64_t hash_bits, int64_t overlapping,
                     int32_t* out_text, int32_t* out_place, int32_t* out_phrase) {
  const Phrases phrases{factors, filter, filter_bits, anchor_words, {anchors, anchor_buckets, anchor_bits},
                        {hashes, hash_buckets, hash_bits}, anchor_lengths};
  int64_t found = 0;
  for (int64_t text = 0; text < texts; ++text)
    phrases.each(words + starts[text], starts[text + 1] - starts[text], overlapping, [&](int64_t place, int64_t phrase) {
      out_text[found] = text, out_place[found] = place, out_phrase[found] = phrase;
      ++found;
    });
  return found;
}

// How often each text has the longest phrases of each class: counts[text][class], which is added to. A phrase has up to
// `most` classes, the first of classes[phrase] before a negative number.
void phrases_count(const uint64_t* words, const int64_t* starts, int64_t texts, const uint64_t* factors,
                   const uint64_t* filter, int64_t filter_bits, int64_t anchor_words, const uint64_t* anchors,
                   const uint32_t* anchor_buckets, int64_t anchor_bits, const uint32_t* anchor_lengths,
                   const uint64_t* hashes, const uint32_t* hash_buckets, int64_t hash_bits, const int16_t* classes,
                   int64_t most, int64_t num_classes, int64_t* counts) {
  const Phrases phrases{factors, filter, filter_bits, anchor_words, {anchors, anchor_buckets, anchor_bits},
                        {hashes, hash_buckets, hash_bits}, anchor_lengths};
  for (int64_t text = 0; text < texts; ++text)
    phrases.each(words + starts[text], starts[text + 1] - starts[text], false, [&](int64_t, int64_t phrase) {
      for (int64_t k = 0; k < most && classes[phrase * most + k] >= 0; ++k)
        ++counts[text * num_classes + classes[phrase * most + k]];
    });
}

}  // extern "C"
