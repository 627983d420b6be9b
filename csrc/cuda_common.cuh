// Shared by the CUDA ops: device guard, stream and launch check on the host; in kernels, loads of
// any dtype and stride, the product of two tiles in shared memory, and sums in a fixed order.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include "host_tensors.h"

namespace lga_fast {

// ---- host

// Makes x's device current, and holds torch's stream on it. Without the guard a kernel would be
// launched on the current device with pointers into another.
struct DeviceContext {
  explicit DeviceContext(const Tensor& x) : guard(x.get_device_index()) {
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &current));
    stream = static_cast<cudaStream_t>(current);
  }
  torch::stable::accelerator::DeviceGuard guard;
  cudaStream_t stream;
};

inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  STD_TORCH_CHECK(error == cudaSuccess, kernel, ": launch failed: ", cudaGetErrorString(error));
}

// Calls f.template operator()<T, S>() with the element type T and the type S of its sums.
template <class F>
void dispatch_dtype(Dtype dtype, const F& f) {
  switch (dtype) {
    case Dtype::kHalf:
      return f.template operator()<__half, float>();
    case Dtype::kBFloat16:
      return f.template operator()<__nv_bfloat16, float>();
    case Dtype::kFloat:
      return f.template operator()<float, float>();
    case Dtype::kDouble:
      return f.template operator()<double, double>();
  }
}

constexpr int kThreads = 256;  // per block, in every kernel
constexpr int kTile = 64;      // side of a tile; each of 16 x 16 threads owns 4 x 4 entries
constexpr int kDepth = 32;     // slice of the summed axis that is in shared memory at a time
constexpr int kRun = 8;        // consecutive elements a thread loads: 16 bytes of a 2-byte dtype
constexpr int kSharedStride = kTile + 4;  // keeps rows 16-byte aligned and spreads them over banks

// Pairs or rows served by one launch, at most. Their bounds are kernel arguments, passed by value:
// no copy to the device, no synchronization.
constexpr int kSlots = 64;
struct RowSlots {
  int64_t start[kSlots], length[kSlots];
};

// ---- loads

template <class T>
struct View {
  const T* data;
  int64_t rows, cols, row_stride, col_stride;
  bool aligned;  // runs may be loaded 16 bytes at a time
};

template <class T>
View<T> view_of(const Matrix& m) {
  const bool aligned = m.col_stride == 1 && reinterpret_cast<uintptr_t>(m.data) % 16 == 0 &&
                       m.row_stride * int64_t(sizeof(T)) % 16 == 0;
  return {static_cast<const T*>(m.data), m.rows, m.cols, m.row_stride, m.col_stride, aligned};
}

__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }

// Elements that a thread loads at a time, as they are stored.
template <class T>
struct alignas(16) Run {
  T element[kRun];
};

// x[row, col : col + kRun], with zeros from column `end` on; end <= x.cols.
template <class T>
__device__ inline Run<T> load_run(const View<T>& x, int64_t row, int64_t col, int64_t end) {
  Run<T> run;
  const T* from = x.data + row * x.row_stride + col * x.col_stride;
  if (x.aligned && col + kRun <= end) {
    constexpr int kPer = 16 / sizeof(T);
#pragma unroll
    for (int i = 0; i < kRun / kPer; ++i)
      reinterpret_cast<uint4*>(run.element)[i] = __ldg(reinterpret_cast<const uint4*>(from) + i);
  } else {
#pragma unroll
    for (int i = 0; i < kRun; ++i) run.element[i] = col + i < end ? from[i * x.col_stride] : T(0.f);
  }
  return run;
}

// The same, widened.
template <class T, class S>
__device__ inline void read_run(const View<T>& x, int64_t row, int64_t col, int64_t end,
                                S (&out)[kRun]) {
  const Run<T> run = load_run(x, row, col, end);
#pragma unroll
  for (int i = 0; i < kRun; ++i) out[i] = static_cast<S>(widen(run.element[i]));
}

// ---- tiles

template <class S>
using SharedTile = S[kDepth][kSharedStride];
template <class S>
struct SharedTiles {
  alignas(16) SharedTile<S> x;
  alignas(16) SharedTile<S> y;
};

// acc[i][j] += sum_k y[k][4 ty + i] * x[k][4 tx + j], the sum over a slice formed on its own: a sum
// of short sums is more accurate than one long chain, for 16 additions after 512 multiply-adds.
template <class S>
__device__ inline void multiply_accumulate(const SharedTile<S>& x_tile, const SharedTile<S>& y_tile,
                                           S (&acc)[4][4]) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  S slice[4][4] = {};
#pragma unroll 8
  for (int k = 0; k < kDepth; ++k) {
    S x[4], y[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[i] = x_tile[k][4 * tx + i];
      y[i] = y_tile[k][4 * ty + i];
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) slice[i][j] += y[i] * x[j];
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) acc[i][j] += slice[i][j];
}

// ---- sums in a fixed order

// Sums each of N values over the block; the result is valid in thread 0. The order of additions is
// fixed: no atomics.
template <int N>
__device__ inline void block_sum(double (&value)[N]) {
  __shared__ double warps[N][kThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  __syncthreads();  // `warps` may still be read for the previous sum
#pragma unroll
  for (int n = 0; n < N; ++n) {
    for (int offset = 16; offset > 0; offset /= 2)
      value[n] += __shfl_down_sync(0xffffffffu, value[n], offset);
    if (lane == 0) warps[n][warp] = value[n];
  }
  __syncthreads();
  if (threadIdx.x == 0)
#pragma unroll
    for (int n = 0; n < N; ++n) {
      value[n] = 0;
      for (int w = 0; w < kThreads / 32; ++w) value[n] += warps[n][w];
    }
}

// The second pass of a sum, one block per slot: out[out_index[slot]] = the sum of
// partial[slot][0 : count[slot]].
struct SumSlots {
  int64_t count[kSlots], out_index[kSlots];
};

template <int N, class Out>
__global__ void sum_partials(const double* partial, int64_t stride, SumSlots slots, Out* out) {
  const double* mine = partial + blockIdx.x * stride * N;
  double sum[N] = {};
  for (int64_t i = threadIdx.x; i < slots.count[blockIdx.x]; i += kThreads)
#pragma unroll
    for (int n = 0; n < N; ++n) sum[n] += mine[i * N + n];
  block_sum(sum);
  if (threadIdx.x == 0)
#pragma unroll
    for (int n = 0; n < N; ++n) out[slots.out_index[blockIdx.x] * N + n] = static_cast<Out>(sum[n]);
}

}  // namespace lga_fast
