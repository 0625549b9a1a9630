// A hash of the words of each line: definition.py's `line_hash`, equal to the last bit.

#include "../duplicates/words.h"

extern "C" {

// Line i is data[offsets[i], offsets[i + 1]). Returns 0, or -1 when memory is short.
int64_t lines_hash(const uint8_t* data, const int64_t* offsets, int64_t lines, const uint32_t* table, uint64_t seed,
                   uint64_t* hashes, int64_t* num_words) try {
  Splitter splitter(table);
  for (int64_t line = 0; line < lines; ++line) {
    int64_t count;
    const uint64_t* words = splitter.split(data + offsets[line], offsets[line + 1] - offsets[line], &count);
    uint64_t total = 0;
    for (int64_t k = 0; k < count; ++k) total += mix(words[k] + (k + 1) * GOLDEN);
    hashes[line] = mix(total ^ mix(count + seed));
    num_words[line] = count;
  }
  return 0;
} catch (const std::bad_alloc&) {
  return -1;
}

}  // extern "C"
