// A table from 64-bit keys to small numbers that is emptied without touching its memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

inline uint64_t load8(const uint8_t *p) {
  uint64_t value;
  memcpy(&value, p, 8);
  return value;
}

inline uint64_t mixed(uint64_t value) {
  value *= 0x9E3779B97F4A7C15u;
  value ^= value >> 32;
  return value * 0xD6E8FEB86659FD93u;
}

// Where it is used as a key, the bytes themselves are compared before they count as equal.
inline uint64_t hash_bytes(const uint8_t *p, uint64_t size) {
  uint64_t hash = size * 0x9E3779B97F4A7C15u, tail = 0;
  if (size < 8) {
    memcpy(&tail, p, size);
    return mixed(hash ^ tail);
  }
  const uint8_t *last = p + size - 8;
  for (; p < last; p += 8) {
    hash = (hash ^ load8(p)) * 0xD6E8FEB86659FD93u;
    hash ^= hash >> 29;
  }
  return mixed(hash ^ load8(last));
}

// Open addressing. A slot is in use when it carries the present epoch.
struct Table {
  struct Slot {
    uint64_t key;
    uint32_t number, epoch;
  };
  std::vector<Slot> slots;
  uint64_t mask = 0;
  uint32_t used = 0, epoch = 0;

  // Empties the table and makes room for `entries` at half load.
  void empty(uint64_t entries) {
    uint64_t wanted = 64;
    while (wanted < 2 * entries) wanted *= 2;
    if (wanted > slots.size() || epoch == UINT32_MAX) {
      slots.assign(std::max<uint64_t>(wanted, slots.size()), {0, 0, 0});
      epoch = 0;
    }
    ++epoch;
    mask = wanted - 1, used = 0;
  }

  // The number of `key`; the next free one, and true in `is_new`, where it has none. `is_same(number)` confirms a key
  // that is only a hash.
  template <class Same> uint32_t number_of(uint64_t key, bool &is_new, Same is_same) {
    for (uint64_t place = mixed(key) >> 20;; ++place) {
      Slot &slot = slots[place & mask];
      if (slot.epoch == epoch) {
        if (slot.key != key || !is_same(slot.number)) continue;
        is_new = false;
        return slot.number;
      }
      slot = {key, used++, epoch};
      is_new = true;
      if (2 * used > mask) grow();
      return used - 1;
    }
  }

  void grow() {
    std::vector<Slot> old;
    old.reserve(used);
    for (uint64_t place = 0; place <= mask; ++place)
      if (slots[place].epoch == epoch) old.push_back(slots[place]);
    empty(2 * (mask + 1));
    for (const Slot &slot : old) {
      uint64_t place = mixed(slot.key) >> 20;
      while (slots[place & mask].epoch == epoch) ++place;
      slots[place & mask] = {slot.key, slot.number, epoch};
    }
    used = old.size();
  }
};
