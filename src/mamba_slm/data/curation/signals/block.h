// 64 bytes at a time: which of them lie in a range, one bit each.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX512BW__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512BW__)

constexpr bool BLOCKS_ARE_FAST = true;
struct Block {
  __m512i bytes;
  explicit Block(const uint8_t *p) : bytes(_mm512_loadu_si512(p)) {}
  // The first `size` < 64 bytes, then `filling`; nothing behind them is read.
  Block(const uint8_t *p, uint64_t size, uint8_t filling)
      : bytes(_mm512_mask_loadu_epi8(_mm512_set1_epi8(filling), (uint64_t(1) << size) - 1, p)) {}
  uint64_t in_range(uint8_t low, uint8_t count) const {
    return _mm512_cmplt_epu8_mask(_mm512_sub_epi8(bytes, _mm512_set1_epi8(low)), _mm512_set1_epi8(count));
  }
  uint64_t equal(const Block &other) const { return _mm512_cmpeq_epi8_mask(bytes, other.bytes); }
};

#elif defined(__AVX2__)

constexpr bool BLOCKS_ARE_FAST = true;
struct Block {
  __m256i low_half, high_half;
  explicit Block(const uint8_t *p) { load(p); }
  Block(const uint8_t *p, uint64_t size, uint8_t filling) {
    uint8_t copy[64];
    memset(copy, filling, 64);
    memcpy(copy, p, size);
    load(copy);
  }
  void load(const uint8_t *p) {
    low_half = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
    high_half = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p + 32));
  }
  static uint32_t in_range(__m256i bytes, uint8_t low, uint8_t count) {
    __m256i above = _mm256_sub_epi8(bytes, _mm256_set1_epi8(low));
    return _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(above, _mm256_set1_epi8(count - 1)), above));
  }
  uint64_t in_range(uint8_t low, uint8_t count) const {
    return uint64_t(in_range(high_half, low, count)) << 32 | in_range(low_half, low, count);
  }
  uint64_t equal(const Block &other) const {
    return uint64_t(uint32_t(_mm256_movemask_epi8(_mm256_cmpeq_epi8(high_half, other.high_half)))) << 32 |
           uint32_t(_mm256_movemask_epi8(_mm256_cmpeq_epi8(low_half, other.low_half)));
  }
};

#else

constexpr bool BLOCKS_ARE_FAST = false;
struct Block {
  uint8_t bytes[64];
  explicit Block(const uint8_t *p) { memcpy(bytes, p, 64); }
  Block(const uint8_t *p, uint64_t size, uint8_t filling) {
    memset(bytes, filling, 64);
    memcpy(bytes, p, size);
  }
  uint64_t in_range(uint8_t low, uint8_t count) const {
    uint64_t found = 0;
    for (int i = 0; i < 64; ++i) found |= uint64_t(uint8_t(bytes[i] - low) < count) << i;
    return found;
  }
  uint64_t equal(const Block &other) const {
    uint64_t found = 0;
    for (int i = 0; i < 64; ++i) found |= uint64_t(bytes[i] == other.bytes[i]) << i;
    return found;
  }
};

#endif
