// Phrases in texts: definition.py's `find_all` and `find_longest`, equal to the last bit.
//
// The first words of a phrase are looked up in a filter that mostly stays in the cache; only where it says "perhaps" are
// phrases of each length hashed and searched.

#include "../duplicates/words.h"

namespace {

constexpr int64_t AHEAD = 32;  // anchors whose places in the filter are fetched together

struct Phrases {
  const uint64_t* factors;
  const uint64_t* filter;
  int64_t filter_bits;
  int64_t anchor_words;
  const uint64_t* hashes;
  const uint32_t* buckets;
  int64_t bucket_bits;
  const int64_t* lengths;  // longest first
  int64_t num_lengths;

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

  // The number of the phrase with this hash, or -1.
  int64_t number_of(uint64_t hash) const {
    const uint64_t bucket = hash >> (64 - bucket_bits);
    for (uint32_t i = buckets[bucket]; i < buckets[bucket + 1]; ++i)
      if (hashes[i] == hash) return i;
    return -1;
  }
};

}  // namespace

extern "C" {

// Occurrences in order: text, number of the first word, phrase. With `overlapping` all, else the longest from left to
// right. The outputs have room for one per word of the texts and, if overlapping, per length. num_words[i] of text i.
// Returns how many, or -1 when memory is short.
int64_t phrases_find(const uint8_t* data, const int64_t* offsets, int64_t texts, const uint32_t* table,
                     const uint64_t* factors, const uint64_t* filter, int64_t filter_bits, int64_t anchor_words,
                     const uint64_t* hashes, const uint32_t* buckets, int64_t bucket_bits, const int64_t* lengths,
                     int64_t num_lengths, int64_t overlapping, int32_t* out_text, int32_t* out_place,
                     int32_t* out_phrase, int64_t* num_words) try {
  const Phrases phrases{factors, filter, filter_bits, anchor_words, hashes, buckets, bucket_bits, lengths, num_lengths};
  Splitter splitter(table);
  int64_t found = 0;
  for (int64_t text = 0; text < texts; ++text) {
    int64_t count;
    const uint64_t* words = splitter.split(data + offsets[text], offsets[text + 1] - offsets[text], &count);
    num_words[text] = count;
    int64_t next = 0;  // the first word behind the last phrase
    uint64_t anchors[AHEAD];
    for (int64_t block = 0; block + anchor_words <= count; block += AHEAD) {
      const int64_t size = std::min(AHEAD, count - anchor_words + 1 - block);
      for (int64_t i = 0; i < size; ++i) anchors[i] = mix(phrases.sum(words + block + i, anchor_words));
      for (int64_t i = 0; i < size; ++i) __builtin_prefetch(filter + phrases.place_in_filter(anchors[i]));
      for (int64_t i = 0; i < size; ++i) {
        const int64_t place = block + i;
        if (place < next || !phrases.may_begin(anchors[i])) continue;
        for (int64_t k = 0; k < num_lengths; ++k) {
          if (place + lengths[k] > count) continue;
          const int64_t phrase =
              phrases.number_of(mix(phrases.sum(words + place, lengths[k]) + lengths[k] * GOLDEN));
          if (phrase < 0) continue;
          out_text[found] = text, out_place[found] = place, out_phrase[found] = phrase;
          ++found;
          if (overlapping) continue;
          next = place + lengths[k];
          break;
        }
      }
    }
  }
  return found;
} catch (const std::bad_alloc&) {
  return -1;
}

}  // extern "C"
