// Repetition of word n-grams, exact: an n-gram is a pair of the numbers of its two (n-1)-grams, and is looked up only
// where both of them occur more than once.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "table.h"
#include "words.h"

class Ngrams {
 public:
  static constexpr uint32_t LAST_TOP_SIZE = 4, LAST_SIZE = 10;

  // Word i of the text is distinct[sequence[i]], which occurs times[sequence[i]] times. Adds to characters[n - 2] what
  // `ngrams.py` defines for n = 2 to 10: for the most frequent n-gram up to 4 words, for all duplicates above.
  void measure(const uint32_t *sequence, size_t num_words, const Word *distinct, const uint32_t *times,
               int64_t *characters) {
    if (places.size() < num_words) places.resize(num_words), numbers.resize(num_words), keys.resize(num_words);
    size_t found = 0;
    for (size_t place = 0; place < num_words; ++place) {
      places[found] = place, numbers[found] = sequence[place];
      found += times[sequence[place]] > 1;
    }
    for (uint32_t words = 2; words <= LAST_SIZE && found > 1; ++words) {
      found = keep_repeated(found);
      const uint32_t top = std::max_element(counts.begin(), counts.end()) - counts.begin();
      uint32_t covered_to = 0;
      for (size_t i = 0; i < found; ++i) {
        // the count of a number is set to 0 when its first occurrence has been seen
        if (words <= LAST_TOP_SIZE ? numbers[i] != top : std::exchange(counts[numbers[i]], 0) != 0) continue;
        for (uint32_t word = std::max(covered_to, places[i]); word < places[i] + words; ++word)
          characters[words - 2] += distinct[sequence[word]].characters;
        covered_to = places[i] + words;
      }
    }
  }

 private:
  Table table;
  std::vector<uint8_t> often;
  std::vector<uint64_t> keys;
  std::vector<uint32_t> places, numbers, counts;  // repeated n-grams: first word and number; by number, how often

  // From the repeated n-grams makes those of one word more, numbered in the order of their first occurrence. Most occur
  // once: two small counters per bucket of a hash tell without a look-up in the table.
  size_t keep_repeated(size_t found) {
    size_t buckets = 256, joined = 0, likely = 0, kept = 0;
    while (buckets < 8 * found) buckets *= 2;
    often.assign(buckets, 0);
    for (size_t i = 0; i + 1 < found; ++i) {
      places[joined] = places[i];
      keys[joined] = uint64_t(numbers[i]) << 32 | numbers[i + 1];
      joined += places[i + 1] == places[i] + 1;
    }
    for (size_t i = 0; i < joined; ++i) {
      uint8_t &times = often[mixed(keys[i]) >> 20 & (buckets - 1)];
      times = times << 1 | 1;
    }
    for (size_t i = 0; i < joined; ++i) {
      places[likely] = places[i], keys[likely] = keys[i];
      likely += often[mixed(keys[i]) >> 20 & (buckets - 1)] > 1;
    }
    table.empty(likely / 2);
    counts.clear();
    for (size_t i = 0; i < likely; ++i) {
      bool is_new;
      numbers[i] = table.number_of(keys[i], is_new, [](uint32_t) { return true; });
      if (is_new) counts.push_back(0);
      ++counts[numbers[i]];
    }
    for (size_t i = 0; i < likely; ++i) {
      places[kept] = places[i], numbers[kept] = numbers[i];
      kept += counts[numbers[i]] > 1;
    }
    return kept;
  }
};
