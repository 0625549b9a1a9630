// Words of UTF-8 texts and their 64-bit hashes: definition.py's `words_of` and `word_hash`, equal to the last bit.
//
// Scratch memory is bounded by the longest text of a batch: 4 bytes of word hashes per byte.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

constexpr uint64_t GOLDEN = 0x9E3779B97F4A7C15ull, MULTIPLY_1 = 0xBF58476D1CE4E5B9ull,
                   MULTIPLY_2 = 0x94D049BB133111EBull;
constexpr int CLASS_SHIFT = 30;
constexpr uint32_t WORD = 1, ALONE = 2, DROPPED = 3;

inline uint64_t mix(uint64_t value) {
  value = (value ^ value >> 30) * MULTIPLY_1;
  value = (value ^ value >> 27) * MULTIPLY_2;
  return value ^ value >> 31;
}

// Little-endian, as all processors are that this is compiled for.
inline uint64_t load8(const uint8_t* bytes) {
  uint64_t value;
  std::memcpy(&value, bytes, 8);
  return value;
}

// Memory that is only touched where it is used, so the bound may be generous.
template <typename T>
struct Scratch {
  T* data = nullptr;
  int64_t capacity = 0;
  ~Scratch() { std::free(data); }
  T* room(int64_t count) {
    if (count > capacity) {
      std::free(data);
      capacity = count + count / 4 + 64;
      data = static_cast<T*>(std::malloc(capacity * sizeof(T)));
      if (data == nullptr) {
        capacity = 0;
        throw std::bad_alloc();
      }
    }
    return data;
  }
};

// 8 bytes behind the word may be read.
inline uint64_t word_hash(const uint8_t* word, int64_t length) {
  uint64_t state = static_cast<uint64_t>(length) * GOLDEN;
  for (; length > 8; length -= 8, word += 8) {
    state = (state ^ load8(word)) * MULTIPLY_1;
    state ^= state >> 32;
  }
  state = (state ^ (load8(word) & ~uint64_t{0} >> (64 - 8 * length))) * MULTIPLY_1;
  return state ^ state >> 32;
}

inline int encode(uint32_t point, uint8_t* out) {
  if (point < 0x80) return out[0] = point, 1;
  if (point < 0x800) return out[0] = 0xC0 | point >> 6, out[1] = 0x80 | (point & 63), 2;
  if (point < 0x10000)
    return out[0] = 0xE0 | point >> 12, out[1] = 0x80 | (point >> 6 & 63), out[2] = 0x80 | (point & 63), 3;
  out[0] = 0xF0 | point >> 18, out[1] = 0x80 | (point >> 12 & 63), out[2] = 0x80 | (point >> 6 & 63);
  return out[3] = 0x80 | (point & 63), 4;
}

struct Splitter {
  const uint32_t* table;
  uint8_t ascii[128];  // what an ASCII character folds to, 0 for a separator
  Scratch<uint8_t> folded;
  Scratch<uint64_t> hashes;

  explicit Splitter(const uint32_t* table) : table(table) {
    for (int c = 0; c < 128; ++c) ascii[c] = table[c] >> CLASS_SHIFT == WORD ? table[c] : 0;
  }

  // The word hashes of a text; valid until the next call.
  uint64_t* split(const uint8_t* text, int64_t size, int64_t* count) {
    uint8_t* word = folded.room(2 * size + 16);  // 2 bytes may fold to 3
    uint64_t* out = hashes.room(size / 2 + 2);
    int64_t length = 0, words = 0, i = 0;
    auto end_word = [&] {
      if (length) out[words++] = word_hash(word, length);
      length = 0;
    };
    while (i < size) {
      const uint8_t c = text[i];
      if (c < 0x80) {
        const uint8_t f = ascii[c];
        ++i;
        if (f) {
          word[length++] = f;
        } else {
          end_word();
        }
        continue;
      }
      const int bytes = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
      if (i + bytes > size) break;  // not UTF-8: nothing behind the text is read
      uint32_t point = c & (0x7F >> bytes);
      for (int k = 1; k < bytes; ++k) point = point << 6 | (text[i + k] & 63);
      i += bytes;
      const uint32_t entry = point < 0x110000 ? table[point] : 0;
      const uint32_t kind = entry >> CLASS_SHIFT, fold = entry & ((1u << CLASS_SHIFT) - 1);
      if (kind == DROPPED) continue;
      if (kind != WORD) end_word();
      if (kind == WORD || kind == ALONE) length += encode(fold, word + length);
      if (kind == ALONE) end_word();
    }
    end_word();
    *count = words;
    return out;
  }
};

}  // namespace
