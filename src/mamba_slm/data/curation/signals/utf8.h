// UTF-8 text as code points and their classes.
#pragma once

#include <cstdint>
#include <cstring>

enum : uint8_t { WHITE = 1, ALPHABETIC = 2, DIGIT = 4, UPPER = 8 };
enum : uint8_t { SENTENCE_END = 16, CLOSER = 32, BULLET = 64, DASH = 128 };

// `characters.CharacterTable`: the class of a code point is blocks[index[code >> 8]][code & 255].
struct Classes {
  const uint16_t *index;
  const uint8_t *blocks;
  const uint8_t *white_leads;  // [256] bytes that may begin a white code point above ASCII
  const uint8_t *ascii;

  Classes(const uint16_t *index, const uint8_t *blocks, const uint8_t *white_leads)
      : index(index), blocks(blocks), white_leads(white_leads), ascii(blocks + index[0] * 256) {}
  uint8_t operator[](uint32_t code) const {
    return code < 128 ? ascii[code] : blocks[index[code >> 8] * 256 + (code & 255)];
  }
};

// The code point at `p` and its length in bytes. Bytes that are no UTF-8 count one by one and have no class: nothing
// behind `end` is read. Lone surrogates in three bytes are code points like others.
inline uint32_t decode(const uint8_t *p, const uint8_t *end, uint32_t &length) {
  uint32_t lead = p[0];
  length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (lead < 0x80) return lead;
  if (lead < 0xC2 || lead > 0xF4 || uint64_t(end - p) < length) return length = 1, 0xFFFD;
  uint32_t code = length == 2 ? lead & 0x1F : length == 3 ? lead & 0x0F : lead & 0x07;
  for (uint32_t i = 1; i < length; ++i) code = code << 6 | (p[i] & 0x3F);
  return code < 0x110000 ? code : 0xFFFD;
}

inline uint64_t count_code_points(const uint8_t *p, const uint8_t *end) {
  uint64_t count = 0;
  for (; p < end; ++p) count += (*p & 0xC0) != 0x80;
  return count;
}
