// low_rank_update_ on CUDA: a block forms a 64 x 64 tile of left.right^T with the rank as the
// summed axis and adds it to the weight. Small ranks are bound by reading and writing the weight: a
// thread's four entries are neighbours along the weight's nearer axis.

#include <utility>

#include "cuda_common.cuh"
#include "ops.h"

namespace lga_fast {

namespace {

__device__ inline void from_sum(float x, __half* to) { *to = __float2half_rn(x); }
__device__ inline void from_sum(float x, __nv_bfloat16* to) { *to = __float2bfloat16_rn(x); }
__device__ inline void from_sum(float x, float* to) { *to = x; }
__device__ inline void from_sum(double x, double* to) { *to = x; }

template <class T, class S, class F>
__global__ void __launch_bounds__(kThreads)
    update_kernel(T* weight, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride,
                  View<F> left, View<F> right, S scale, int64_t tiles_x) {
  __shared__ TileMemory<S> s;
  const int64_t x0 = blockIdx.x % tiles_x * kTile, y0 = blockIdx.x / tiles_x * kTile;
  S delta[4][4];
  outer_tile(right, left, 0, left.rows, x0, y0, s, delta);
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t row = y0 + 4 * ty + i, col = x0 + 4 * tx + j;
      if (row < rows && col < cols) {
        T* w = weight + row * row_stride + col * col_stride;
        from_sum(static_cast<S>(to_sum(*w)) + scale * delta[i][j], w);
      }
    }
}

}  // namespace

void low_rank_update_cuda(const Tensor& weight, const Tensor& left, const Tensor& right,
                          double scale) {
  Factors f = factors_of(weight, left, right);
  int64_t rows = weight.size(0), cols = weight.size(1);
  int64_t row_stride = weight.stride(0), col_stride = weight.stride(1);
  if (col_stride > row_stride) {  // walk memory in its own order
    std::swap(rows, cols);
    std::swap(row_stride, col_stride);
    std::swap(f.left, f.right);
  }
  const int64_t tiles_x = ceil_div(cols, kTile), tiles = tiles_x * ceil_div(rows, kTile);
  if (tiles == 0 || f.left.rows == 0) return;
  const OnDevice on(weight);
  auto launch = [&]<class T, class S, class F>() {
    update_kernel<T, S, F><<<static_cast<unsigned>(tiles), kThreads, 0, on.stream>>>(
        static_cast<T*>(weight.mutable_data_ptr()), rows, cols, row_stride, col_stride,
        view_of<F>(f.left), view_of<F>(f.right), static_cast<S>(scale), tiles_x);
    check_launch("low_rank_update_");
  };
  with_dtype(dtype_of(weight, "low_rank_update_", "weight"), [&]<class T, class S>() {
    if (f.left.dtype == Dtype::kDouble)
      launch.template operator()<T, S, double>();
    else
      launch.template operator()<T, S, float>();
  });
}

STABLE_TORCH_LIBRARY_IMPL(lga_fast, CUDA, m) {
  m.impl("low_rank_update_", TORCH_BOX(&low_rank_update_cuda));
}

}  // namespace lga_fast
