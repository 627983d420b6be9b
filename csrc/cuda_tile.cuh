// Tiles of G = d^T a on CUDA, each formed in registers, used and discarded. Shared by the tiled
// form of grad_dot, by grad_abs_sum and, with the rank as the token axis, by low_rank_update_. As
// on the CPU, x is the wider side of G and y the other.
//
// Two shapes of tile: 64 x 64 through shared memory, and, where y has at most kThin columns (a bias
// has one) and a 64 x 64 tile would be nearly empty, 256 columns of x with one thread each.
#pragma once

#include <algorithm>

#include "cuda_common.cuh"

namespace lga_fast {

constexpr int kThin = 4;

inline bool is_thin(int64_t y_cols) { return y_cols <= kThin; }
inline int64_t grad_tiles(int64_t d_in, int64_t d_out) {
  const int64_t x_cols = std::max(d_in, d_out), y_cols = std::min(d_in, d_out);
  return is_thin(y_cols) ? ceil_div(x_cols, kThreads)
                         : ceil_div(x_cols, kTile) * ceil_div(y_cols, kTile);
}

template <class T>
struct Sides {
  View<T> x, y;
};
template <class T>
Sides<T> sides_of(const Matrix& a, const Matrix& d) {
  const bool a_wider = a.cols >= d.cols;
  return {view_of<T>(a_wider ? a : d), view_of<T>(a_wider ? d : a)};
}

// acc = this thread's entries of the tile of y^T x at (y0, x0), over tokens [begin, begin +
// tokens). The next slice of tokens is loaded while the current one is multiplied.
template <class T, class S>
__device__ void form_tile(const View<T>& x, const View<T>& y, int64_t begin, int64_t tokens,
                          int64_t x0, int64_t y0, SharedTiles<S>& s, S (&acc)[4][4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) acc[i][j] = S(0);
  const int t = threadIdx.x / (kTile / kRun), c = threadIdx.x % (kTile / kRun) * kRun;
  S next_x[kRun], next_y[kRun];
  auto read = [&](int64_t at) {
    // past the last token an end of 0 gives zeros without a load
    const bool inside = at + t < tokens;
    read_run(x, inside ? begin + at + t : 0, inside ? x0 + c : 0, inside ? x.cols : 0, next_x);
    read_run(y, inside ? begin + at + t : 0, inside ? y0 + c : 0, inside ? y.cols : 0, next_y);
  };
  read(0);
  for (int64_t at = 0; at < tokens; at += kDepth) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      s.x[t][c + i] = next_x[i];
      s.y[t][c + i] = next_y[i];
    }
    __syncthreads();
    if (at + kDepth < tokens) read(at + kDepth);
    multiply_accumulate<S>(s.x, s.y, acc);
  }
}

// Calls use(index, entry) for each entry of G that this thread owns in the block's tile; entries
// past the edge are 0. After unrolling, `index` is a constant.
template <class T, class S, class Use>
__device__ void for_each_entry_thin(const Sides<T>& side, int64_t start, int64_t length,
                                    const Use& use) {
  const int64_t col = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (col >= side.x.cols) return;
  S g[kThin] = {};
  const int64_t end = start + length;
  for (int64_t first = start; first < end; first += kDepth) {
    S slice[kThin] = {};  // as in multiply_accumulate()
    for (int64_t t = first; t < min(first + kDepth, end); ++t) {
      const S x =
          static_cast<S>(widen(side.x.data[t * side.x.row_stride + col * side.x.col_stride]));
#pragma unroll
      for (int r = 0; r < kThin; ++r)
        if (r < side.y.cols)
          slice[r] +=
              static_cast<S>(widen(side.y.data[t * side.y.row_stride + r * side.y.col_stride])) * x;
    }
#pragma unroll
    for (int r = 0; r < kThin; ++r) g[r] += slice[r];
  }
#pragma unroll
  for (int r = 0; r < kThin; ++r) use(r, g[r]);
}

template <class T, class S, class Use>
__device__ void for_each_entry(const Sides<T>& side, int64_t start, int64_t length,
                               SharedTiles<S>& s, const Use& use) {
  const int64_t tiles_x = (side.x.cols + kTile - 1) / kTile;
  S g[4][4];
  form_tile(side.x, side.y, start, length, blockIdx.x % tiles_x * kTile,
            blockIdx.x / tiles_x * kTile, s, g);
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) use(4 * i + j, g[i][j]);
}

}  // namespace lga_fast
