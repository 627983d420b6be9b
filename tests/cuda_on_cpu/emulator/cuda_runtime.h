// Stands in for the header of the CUDA toolkit: the part of it that csrc/ uses.
#pragma once

#include <cmath>

#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define threadIdx (emu::thread_index)
#define blockIdx (emu::block_index)
#define blockDim (emu::block_size)
#define gridDim (emu::grid_size)

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

using cudaStream_t = struct CUstream_st*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);

template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

inline void __syncthreads(emu::Site at = emu::Site::current()) { emu::barrier(at); }
inline void __syncwarp(unsigned mask = 0xffffffffu, emu::Site at = emu::Site::current()) {
  emu::warp_barrier(mask, at);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned offset, emu::Site at = emu::Site::current()) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  emu::Parcel mine = {};
  std::memcpy(&mine, &value, sizeof(T));
  const emu::Parcel* lanes = emu::exchange(mask, mine, at);
  const unsigned from = emu::lane() + offset;
  if (from < 32) std::memcpy(&value, &lanes[from], sizeof(T));
  return value;
}

template <class T>
T __ldg(const T* from, emu::Site at = emu::Site::current()) {
  if (reinterpret_cast<uintptr_t>(from) % alignof(T) != 0) emu::fail("misaligned vector load", at);
  return *from;
}
