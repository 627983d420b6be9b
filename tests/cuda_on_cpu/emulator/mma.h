// What a tensor core does with the fragments of a warp; see csrc/cuda_mma.cuh.
#pragma once

#include <vector>

#include "cuda_runtime.h"

namespace emu {

// All values of a 2-byte dtype, by their bits.
template <class T>
const float* values() {
  static const std::vector<float> table = [] {
    std::vector<float> values;
    for (unsigned bits = 0; bits < 1 << 16; ++bits) {
      const uint16_t word = bits;
      T value;
      std::memcpy(&value, &word, sizeof(T));
      values.push_back(static_cast<float>(value));
    }
    return values;
  }();
  return table.data();
}

}  // namespace emu

template <class T>
void mma_m16n8k16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                  emu::Site at = emu::Site::current()) {
  static_assert(sizeof(T) == 2);
  emu::Parcel mine;
  std::memcpy(&mine[0], a, sizeof(a));
  std::memcpy(&mine[2], b, sizeof(b));
  const emu::Parcel* lanes = emu::exchange(0xffffffffu, mine, at);
  const float* values = emu::values<T>();
  // Token `token` at all 16 columns: its quad of lanes holds two of them in a register, and those
  // 8 columns on in the one `next` registers on.
  auto read = [&](unsigned token, unsigned first, unsigned next, float (&row)[16]) {
    for (unsigned k = 0; k < 16; k += 2) {
      uint16_t bits[2];
      const auto* words = reinterpret_cast<const char*>(&lanes[token * 4 + k % 8 / 2]);
      std::memcpy(bits, words + (first + k / 8 * next) * sizeof(unsigned), sizeof(bits));
      row[k] = values[bits[0]], row[k + 1] = values[bits[1]];
    }
  };
  const unsigned g = emu::lane() / 4, q = emu::lane() % 4;
  float left[2][16], right[2][16];
  for (unsigned i = 0; i < 2; ++i) {
    read(g, i, 2, left[i]);
    read(2 * q + i, 4, 1, right[i]);
  }
  for (int i = 0; i < 4; ++i)
    for (int k = 0; k < 16; ++k) c[i] += left[i / 2][k] * right[i % 2][k];
}
