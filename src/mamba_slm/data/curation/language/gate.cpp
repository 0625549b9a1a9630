// The evidence of definition.py for a batch of texts, equal to the last bit.
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace {

// As in definition.py and characters.py.
constexpr uint16_t SPACE = ' ', FOREIGN = 0xFFFF, APOSTROPHE = '\'', NEWLINE = '\n', HYPHEN = '-', TICK = '`';
constexpr uint32_t FOLDED = 0x2C00, BLOCK_BITS = 6;
constexpr int64_t MIN_FOREIGN = 2, FOREIGN_PER_WORD = 4, MAX_LETTERS = 30, MAX_WORD_SCORE = 256;
constexpr uint64_t GRAM_FACTOR = 0x9E3779B97F4A7C15, MIX_FACTOR = 0xD6E8FEB86659FD93, WORD_FACTOR = 0xA0761D6478BD642F;

enum : uint8_t { LETTER = 1, IS_HYPHEN = 2, BEFORE = 4, AFTER = 8, OTHER = 16, IS_FOREIGN = 32 };

struct Flags {
  uint8_t of[128] = {};
  constexpr Flags() {
    for (int c = 0; c < 128; ++c) of[c] = c >= 'a' && c <= 'z' ? LETTER : OTHER;
    of[APOSTROPHE] = LETTER | BEFORE | AFTER;  // every other mark is no part of a word
    of[HYPHEN] = IS_HYPHEN;
    for (const char *c = "\"([*_`"; *c; ++c) of[int(*c)] |= BEFORE;
    for (const char *c = ".,;:!?\")]*_`"; *c; ++c) of[int(*c)] |= AFTER;
  }
  // Of a folded character.
  uint8_t operator[](uint16_t c) const { return c < 128 ? of[c] : c == FOREIGN ? IS_FOREIGN : LETTER; }
};
constexpr Flags FLAGS;

// Of a byte: the flags of the ASCII character that continues a token, or STOP.
constexpr uint8_t STOP = 128;
struct Continuing {
  uint8_t of[256] = {};
  constexpr Continuing() {
    for (int c = 0; c < 256; ++c) {
      const bool is_upper = c >= 'A' && c <= 'Z';
      of[c] = c <= ' ' || c >= 127 || c == TICK ? STOP : FLAGS.of[is_upper ? c + 32 : c];
    }
  }
};
constexpr Continuing CONTINUING;

struct Range {
  const uint8_t *start, *end;
};

// The score of a word of at most SHORT letters; what is remembered is what would be found again.
struct Remembered {
  uint64_t low, high;
  int64_t score;
};
constexpr int64_t SHORT = 8, ASCII_STRIDE = 64;
constexpr int REMEMBERED_BITS = 12;

class Gate {
 public:
  int64_t words = 0, foreign_words = 0, score = 0;

  Gate(const uint16_t *fold, const uint16_t *blocks, const int8_t *weights, int64_t table_bits)
      : fold(fold), blocks(blocks), weights(weights), shift(64 - table_bits), token(256), remembered(1 << REMEMBERED_BITS) {}

  void weigh(const uint8_t *text, const uint8_t *end) {
    words = foreign_words = score = 0;
    find_fences(text, end);
    for (size_t i = 0; i + 1 < fences.size(); i += 2) {
      weigh_piece(text, fences[i].start);
      text = fences[i + 1].end;
    }
    weigh_piece(text, end);
    score -= MAX_WORD_SCORE * foreign_words;
  }

 private:
  const uint16_t *const fold, *const blocks;
  const int8_t *const weights;
  const int shift;
  std::vector<uint16_t> token;  // folded, with room for SHORT more behind it
  std::vector<Remembered> remembered;
  std::vector<Range> fences;    // lines of three or more ticks without another one behind them

  void find_fences(const uint8_t *text, const uint8_t *end) {
    fences.clear();
    const uint8_t *p = text;
    while (p < end && (p = static_cast<const uint8_t *>(memchr(p, TICK, end - p)))) {
      const uint8_t *start = p, *run = p;
      while (start > text && (start[-1] == ' ' || start[-1] == '\t')) --start;
      while (p < end && *p == TICK) ++p;
      if (p - run < 3 || (start > text && start[-1] != NEWLINE)) continue;
      while (p < end && *p != TICK && *p != NEWLINE) ++p;
      if (p == end || *p == NEWLINE) fences.push_back({start, p});
    }
  }

  // The code point at `p` folded, `p` moved behind it; nothing at or behind `end` is read.
  uint16_t next(const uint8_t *&p, const uint8_t *end) const {
    const uint32_t lead = *p++;
    if (lead < 0x80) return fold[lead];
    const int more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    uint32_t code = lead & (0x3F >> more);
    for (int i = 0; i < more && p < end; ++i) code = code << 6 | (*p++ & 0x3F);
    if (code >= 0x110000) return SPACE;
    return code < FOLDED ? fold[code] : blocks[code >> BLOCK_BITS];
  }

  // Tokens of a piece without fences; inline code parts them.
  void weigh_piece(const uint8_t *p, const uint8_t *end) {
    while (p < end) {
      size_t size = 0;
      uint8_t seen = 0;
      int64_t foreign = 0;
      while (p < end) {
        if (size + SHORT + ASCII_STRIDE >= token.size()) make_room(size + ASCII_STRIDE);
        uint16_t *out = token.data() + size;
        const uint8_t *const stop = end - p < ASCII_STRIDE ? end : p + ASCII_STRIDE;
        while (p < stop && !(CONTINUING.of[*p] & STOP)) {
          seen |= CONTINUING.of[*p];
          *out++ = *p | (*p >= 'A' && *p <= 'Z' ? 32 : 0);
          ++p;
        }
        size = out - token.data();
        if (p == stop) continue;
        if (*p <= SPACE) {
          ++p;
          break;
        }
        if (*p == TICK) {
          const uint8_t *ticks = p;
          while (p < end && *p == TICK) ++p;
          const uint8_t *closing = p;
          while (closing < end && *closing != TICK && *closing != NEWLINE) ++closing;
          if (closing < end && *closing == TICK) {
            for (p = closing; p < end && *p == TICK;) ++p;
            break;
          }
          make_room(size + (p - ticks));
          for (; ticks < p; ++ticks) token[size++] = TICK;
          seen |= FLAGS[TICK];
          continue;
        }
        const uint16_t character = next(p, end);
        if (character == SPACE || character == NEWLINE) break;
        const uint8_t flags = FLAGS[character];
        seen |= flags;
        foreign += flags == IS_FOREIGN;
        token[size++] = character;
      }
      if (foreign) {
        if (foreign >= MIN_FOREIGN) foreign_words += (foreign + FOREIGN_PER_WORD - 1) / FOREIGN_PER_WORD;
      } else if (size) {
        weigh_token(token.data(), token.data() + size, seen);
      }
    }
  }

  void make_room(size_t size) {
    if (size + SHORT > token.size()) token.resize(2 * (size + SHORT));
  }

  // Judges the words of a token in Latin script, if it is made of words.
  void weigh_token(const uint16_t *start, const uint16_t *end, uint8_t seen) {
    if (*start == HYPHEN) return;
    if (seen & ~LETTER) {
      while (start < end && (FLAGS[*start] & BEFORE)) ++start;
      while (end > start && (FLAGS[end[-1]] & AFTER)) --end;
      if (start == end || *start == HYPHEN || end[-1] == HYPHEN) return;
      seen = 0;
      for (const uint16_t *p = start; p < end; ++p) seen |= FLAGS[*p];
      if (seen & OTHER) return;
    }
    if (!(seen & IS_HYPHEN)) return weigh_word(start, end);
    for (const uint16_t *p = start; start < end; start = p + 1) {
      for (p = start; p < end && *p != HYPHEN;) ++p;
      weigh_word(start, p);
    }
  }

  void weigh_word(const uint16_t *start, const uint16_t *end) {
    while (start < end && *start == APOSTROPHE) ++start;
    while (end > start && end[-1] == APOSTROPHE) --end;
    if (start == end) return;
    ++words;
    if (end - start > SHORT) {
      score += score_of(start, end - start < MAX_LETTERS ? end - start : MAX_LETTERS);
      return;
    }
    uint64_t low, high;
    memcpy(&low, start, 8);
    memcpy(&high, start + 4, 8);
    const int64_t letters = end - start;
    if (letters < 4) low &= (uint64_t(1) << 16 * letters) - 1;
    high = letters <= 4 ? 0 : letters < 8 ? high & ((uint64_t(1) << 16 * (letters - 4)) - 1) : high;
    Remembered &known = remembered[mixed(low ^ high * WORD_FACTOR) >> (64 - REMEMBERED_BITS)];
    if (known.low != low || known.high != high) known = {low, high, score_of(start, letters)};
    score += known.score;
  }

  int64_t score_of(const uint16_t *start, int64_t letters) const {
    uint16_t word[MAX_LETTERS + 6];
    word[0] = SPACE;
    memcpy(word + 1, start, 2 * letters);
    word[letters + 1] = SPACE;
    word[letters + 2] = 0;
    int64_t found = 0;
    uint64_t whole = 0;
    for (int64_t i = 0; i < letters; ++i) {
      uint64_t four;
      memcpy(&four, word + i, 8);
      const uint64_t three = mixed(four & 0xFFFFFFFFFFFF);
      whole += three;
      found += weights[three >> shift];
      if (i + 1 < letters) found += weights[mixed(four) >> shift];
    }
    found += weights[(whole * WORD_FACTOR) >> shift];
    return found > MAX_WORD_SCORE ? MAX_WORD_SCORE : found < -MAX_WORD_SCORE ? -MAX_WORD_SCORE : found;
  }

  static uint64_t mixed(uint64_t key) {
    key *= GRAM_FACTOR;
    return (key ^ key >> 32) * MIX_FACTOR;
  }
};

}  // namespace

extern "C" {

// Text i is content[offsets[i], offsets[i + 1]); row i of `out` [num_texts 3] gets its words, its words in other
// scripts and its score. Returns 0, or -1 for lack of memory.
int64_t weigh_texts(const uint8_t *content, const int64_t *offsets, int64_t num_texts, const uint16_t *fold,
                    const uint16_t *blocks, const int8_t *weights, int64_t table_bits, int64_t *out) try {
  Gate gate(fold, blocks, weights, table_bits);
  for (int64_t i = 0; i < num_texts; ++i) {
    gate.weigh(content + offsets[i], content + offsets[i + 1]);
    out[3 * i] = gate.words;
    out[3 * i + 1] = gate.foreign_words;
    out[3 * i + 2] = gate.score;
  }
  return 0;
} catch (const std::bad_alloc &) {
  return -1;
}
}
