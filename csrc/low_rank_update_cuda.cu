// low_rank_update_ on CUDA: each block forms a 64 x 64 tile of left.right^T, with the rank as the
// summed axis, and adds it to the weight. Small ranks are bound by the traffic of the weight, so
// the four entries a thread owns in a row are adjacent along the axis of the smaller stride.

#include "cuda_tile.cuh"
#include "ops.h"

namespace lga_fast {

namespace {

__device__ inline void narrow(float x, __half* to) { *to = __float2half_rn(x); }
__device__ inline void narrow(float x, __nv_bfloat16* to) { *to = __float2bfloat16_rn(x); }
__device__ inline void narrow(float x, float* to) { *to = x; }
__device__ inline void narrow(double x, double* to) { *to = x; }

template <class T, class S, class F>
__global__ void __launch_bounds__(kThreads)
    update_kernel(T* weight, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride,
                  View<F> left, View<F> right, S scale, int64_t tiles_x) {
  __shared__ SharedTiles<S> s;
  const int64_t x0 = blockIdx.x % tiles_x * kTile, y0 = blockIdx.x / tiles_x * kTile;
  S delta[4][4];
  form_tile(right, left, 0, left.rows, x0, y0, s, delta);
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t row = y0 + 4 * ty + i, col = x0 + 4 * tx + j;
      if (row < rows && col < cols) {
        T* w = weight + row * row_stride + col * col_stride;
        narrow(static_cast<S>(widen(*w)) + scale * delta[i][j], w);
      }
    }
}

}  // namespace

void low_rank_update_cuda(const Tensor& weight, const Tensor& left, const Tensor& right,
                          double scale) {
  const LowRankUpdateArgs args = low_rank_update_args(weight, left, right);
  const MutableMatrix& w = args.weight;
  const int64_t tiles_x = ceil_div(w.cols, kTile), tiles = tiles_x * ceil_div(w.rows, kTile);
  const int64_t rank = args.left.rows;
  if (tiles == 0 || rank == 0) return;
  const DeviceContext context(weight);
  auto launch = [&]<class T, class S, class F>() {
    update_kernel<T, S, F><<<static_cast<unsigned>(tiles), kThreads, 0, context.stream>>>(
        static_cast<T*>(w.data), w.rows, w.cols, w.row_stride, w.col_stride, view_of<F>(args.left),
        view_of<F>(args.right), static_cast<S>(scale), tiles_x);
    check_launch("low_rank_update_");
  };
  dispatch_dtype(w.dtype, [&]<class T, class S>() {
    if (args.left.dtype == Dtype::kDouble)
      launch.template operator()<T, S, double>();
    else
      launch.template operator()<T, S, float>();
  });
}

STABLE_TORCH_LIBRARY_IMPL(lga_fast, CUDA, m) {
  m.impl("low_rank_update_", TORCH_BOX(&low_rank_update_cuda));
}

}  // namespace lga_fast
