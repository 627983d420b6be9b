// Gram tiles of 2-byte dtypes on tensor cores, whose products are exact in float.
//
// A tile of 64 x 64 tokens is 4 x 2 pieces of 16 x 32, one for each of the block's eight warps; a
// piece is four 16 x 8 tiles of mma.m16n8k16. In its fragments, of lane 4 g + q, a register holds
// two neighbouring columns:
//
//   a     tokens g and g + 8 at columns 2 q, then both at columns 2 q + 8
//   b     token g at columns 2 q and 2 q + 8
//   c     token g at tokens 2 q and 2 q + 1, then token g + 8
//
// Tokens lie 20 words apart in shared memory, so that the 32 lanes read from 32 banks.
#pragma once

#include "cuda_common.cuh"

#ifndef __CUDACC__
#include "mma.h"  // of tests/cuda_on_cpu
#endif

namespace lga_fast {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
template <class T>
constexpr bool kHasMma = sizeof(T) == 2;
#else
template <class T>
constexpr bool kHasMma = false;
#endif

#ifdef __CUDACC__
// c += a . b^T
template <class T>
__device__ inline void mma_m16n8k16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define LGA_MMA(dtype)                                                                \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." dtype "." dtype               \
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                       \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
  if constexpr (std::is_same_v<T, __half>)
    LGA_MMA("f16");
  else
    LGA_MMA("bf16");
#undef LGA_MMA
#endif
}
#endif

constexpr int kTokenWords = kDepth / 2 + 4;
struct SharedTokens {
  alignas(16) unsigned x[kTile][kTokenWords];
  alignas(16) unsigned y[kTile][kTokenWords];
};

// One warp's piece of a tile: rows of y from y0 on, of x from x0 on.
struct MmaPiece {
  int y0, x0;
  float acc[4][4];  // by 16 x 8 tile

  __device__ MmaPiece() : y0(threadIdx.x / 32 % 4 * 16), x0(threadIdx.x / 128 * 32), acc{} {}

  // acc += y . x^T over the kDepth columns in shared memory, their sum formed on its own as in
  // multiply_accumulate(): the tensor cores truncate where a float addition rounds.
  template <class T>
  __device__ void multiply_accumulate(const unsigned (&x)[kTile][kTokenWords],
                                      const unsigned (&y)[kTile][kTokenWords]) {
    const int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    float slice[4][4] = {};
#pragma unroll
    for (int k = q; k < kDepth / 2; k += 8) {
      const unsigned a[4] = {y[y0 + g][k], y[y0 + g + 8][k], y[y0 + g][k + 4],
                             y[y0 + g + 8][k + 4]};
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const unsigned b[2] = {x[x0 + 8 * n + g][k], x[x0 + 8 * n + g][k + 4]};
        mma_m16n8k16<T>(slice[n], a, b);
      }
    }
#pragma unroll
    for (int n = 0; n < 4; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[n][i] += slice[n][i];
  }

  __device__ void store(float* tile) const {
    const int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 4; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        tile[(y0 + g + i / 2 * 8) * kTile + x0 + 8 * n + 2 * q + i % 2] = acc[n][i];
  }
};

}  // namespace lga_fast
