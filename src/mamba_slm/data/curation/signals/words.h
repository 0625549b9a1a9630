// What one word is, from its characters: examined once for each distinct word of a text.
#pragma once

#include <algorithm>

#include "block.h"
#include "table.h"
#include "utf8.h"

constexpr int64_t MAX_CORE_BYTES = 16, MAX_PHRASE_WORDS = 3;
constexpr uint32_t RUN_CHARACTERS = 5;

// `vocabulary.py` in numbers: a word's number is its place + 1, and the stop words come first.
struct Vocabulary {
  const uint8_t *words;  // [num_words 16], filled with NUL
  int64_t num_words, num_stop_words;
  const int64_t *phrases;  // [num_phrases 4]: family, then the numbers of up to three words, filled with 0
  int64_t num_phrases;
  uint32_t first_letters[MAX_CORE_BYTES + 1] = {};  // by length: bit c & 31 of every first byte c, and every last one
  uint32_t last_letters[MAX_CORE_BYTES + 1] = {};

  Vocabulary(const uint8_t *words, int64_t num_words, int64_t num_stop_words, const int64_t *phrases, int64_t count)
      : words(words), num_words(num_words), num_stop_words(num_stop_words), phrases(phrases), num_phrases(count) {
    for (int64_t i = 0; i < num_words; ++i) {
      const uint8_t *word = words + MAX_CORE_BYTES * i;
      int64_t length = std::find(word, word + MAX_CORE_BYTES, 0) - word;
      first_letters[length] |= 1u << (word[0] & 31);
      last_letters[length] |= 1u << (word[length - 1] & 31);
    }
  }
};

struct Word {
  uint32_t start, bytes, characters, letters, upper;
  uint8_t code;  // its core's number in the vocabulary, or 0
  bool is_link : 1, ends_sentence : 1, ends_ellipsis : 1, is_bullet : 1;
};

// What few words have.
struct Rare {
  uint32_t number;  // of the word
  uint32_t longest_run, digits, hash_marks, ellipses, curly_brackets, run_characters;
  bool is_any() const { return digits | hash_marks | ellipses | curly_brackets | run_characters; }
};

inline bool is_ascii_punctuation(uint8_t c) {
  return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
}

inline uint8_t ascii_lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

// Compares the core of a word with the vocabulary and with "www.".
inline void look_up(Word &word, const uint8_t *p, const uint8_t *end, const Vocabulary &vocabulary) {
  while (p < end && is_ascii_punctuation(*p)) ++p;
  while (p < end && is_ascii_punctuation(end[-1])) --end;
  int64_t size = end - p;
  if (size >= 4 && (p[0] | 32) == 'w' && (p[1] | 32) == 'w' && (p[2] | 32) == 'w' && p[3] == '.') word.is_link = true;
  if (size == 0 || size > MAX_CORE_BYTES) return;
  if (!(vocabulary.first_letters[size] >> (p[0] & 31) & vocabulary.last_letters[size] >> (end[-1] & 31) & 1)) return;
  uint8_t core[MAX_CORE_BYTES] = {};
  for (int64_t i = 0; i < size; ++i) core[i] = ascii_lower(p[i]);
  if (!core[size - 1]) return;
  for (int64_t i = 0; i < vocabulary.num_words; ++i)
    if (!memcmp(core, vocabulary.words + MAX_CORE_BYTES * i, MAX_CORE_BYTES)) word.code = i + 1;
}

// Any word, character by character.
inline void examine_characters(Word &word, Rare &rare, const uint8_t *p, const uint8_t *end, const Classes &classes) {
  uint32_t last = UINT32_MAX, run = 0, dots = 0, length;
  for (const uint8_t *at = p; at < end; at += length) {
    uint32_t code = decode(at, end, length);
    uint8_t bits = classes[code];
    ++word.characters;
    word.letters += (bits & ALPHABETIC) != 0;
    rare.digits += (bits & DIGIT) != 0;
    word.upper += (bits & UPPER) != 0;
    word.ends_sentence = (bits & SENTENCE_END) || (word.ends_sentence && (bits & CLOSER));
    if (at == p) word.is_bullet = (bits & BULLET) || ((bits & DASH) && length == word.bytes);
    if (code != last) {
      if (run >= RUN_CHARACTERS) rare.run_characters += run;
      rare.longest_run = std::max(rare.longest_run, run);
      run = 0, last = code;
    }
    ++run;
    dots = code == '.' ? dots + 1 : 0;
    if (code == 0x2026 || dots == 3) ++rare.ellipses, dots = 0;
    rare.hash_marks += code == '#';
    rare.curly_brackets += code == '{' || code == '}';
    if (code == ':' && end - at > 2 && at[1] == '/' && at[2] == '/') word.is_link = true;
  }
  if (run >= RUN_CHARACTERS) rare.run_characters += run;
  rare.longest_run = std::max(rare.longest_run, run);
}

// The same for a word of less than 64 ASCII characters without a run that counts; false, and nothing done, for others.
inline bool examine_block(Word &word, Rare &rare, const uint8_t *p, const Classes &classes) {
  const uint64_t size = word.bytes;
  if (!BLOCKS_ARE_FAST || size >= 64) return false;
  const Block block(p, size, 0), next(p + 1, size - 1, 0);
  uint64_t equal = block.equal(next) & ((uint64_t(1) << (size - 1)) - 1);
  const uint64_t pairs = equal & equal >> 1;
  if (block.in_range(128, 128) || (pairs & pairs >> 2)) return false;
  for (rare.longest_run = 1; equal; equal &= equal >> 1) ++rare.longest_run;
  const uint64_t upper = block.in_range('A', 26);
  word.characters = size;
  word.upper = __builtin_popcountll(upper);
  word.letters = word.upper + __builtin_popcountll(block.in_range('a', 26));
  if (word.letters == size) return true;
  rare.digits = __builtin_popcountll(block.in_range('0', 10));
  if (word.letters + rare.digits == size) return true;
  uint64_t dots = block.in_range('.', 1), slashes = block.in_range('/', 1);
  dots &= dots >> 1 & dots >> 2;
  rare.ellipses = __builtin_popcountll(dots & ~(dots << 1));  // four dots are one ellipsis too, and five a run
  rare.hash_marks = __builtin_popcountll(block.in_range('#', 1));
  rare.curly_brackets = __builtin_popcountll(block.in_range('{', 1) | block.in_range('}', 1));
  word.is_link = (block.in_range(':', 1) & slashes >> 1 & slashes >> 2) != 0;
  word.is_bullet = (classes.ascii[*p] & BULLET) || (size == 1 && (classes.ascii[*p] & DASH));
  uint64_t last = size;
  while (last && (classes.ascii[p[last - 1]] & CLOSER)) --last;
  word.ends_sentence = last && (classes.ascii[p[last - 1]] & SENTENCE_END);
  return true;
}

inline void examine(Word &word, Rare &rare, const uint8_t *p, const Classes &classes, const Vocabulary &vocabulary) {
  const uint8_t *end = p + word.bytes;
  if (!examine_block(word, rare, p, classes)) examine_characters(word, rare, p, end, classes);
  if (word.bytes >= 3) word.ends_ellipsis = !memcmp(end - 3, "...", 3) || !memcmp(end - 3, "\xE2\x80\xA6", 3);
  look_up(word, p, end, vocabulary);
}
