// Gram form of grad_dot on CUDA: kernels 1 and 2 of grad_dot_cuda.cu, which explains the design.
#pragma once

#include "cuda_common.cuh"
#include "cuda_mma.cuh"

namespace lga_fast {

struct PairSlots {
  RowSlots old_rows, new_rows;
};

constexpr int64_t kMinColumns = 256, kMaxParts = 32;
// How one pair's Gram matrices are cut: tiles of the upper triangle, and for each tile parts of the
// columns of a and d, one block each.
struct GramPlan {
  int64_t tokens, tiles;
  int64_t columns_a, columns_d, parts_a, parts_d;
};
__host__ __device__ inline int64_t columns_per_part(int64_t tiles, int64_t cols) {
  const int64_t parts = kMaxParts / tiles > 1 ? kMaxParts / tiles : 1;
  const int64_t columns = ((cols + parts - 1) / parts + kDepth - 1) / kDepth * kDepth;
  return columns > kMinColumns ? columns : kMinColumns;
}
__host__ __device__ inline GramPlan gram_plan(int64_t tokens, int64_t d_in, int64_t d_out) {
  const int64_t side = (tokens + kTile - 1) / kTile, tiles = side * (side + 1) / 2;
  GramPlan p = {tokens, tiles, 0, 0, 0, 0};
  if (tiles == 0) return p;
  p.columns_a = columns_per_part(tiles, d_in);
  p.columns_d = columns_per_part(tiles, d_out);
  p.parts_a = (d_in + p.columns_a - 1) / p.columns_a;
  p.parts_d = (d_out + p.columns_d - 1) / p.columns_d;
  return p;
}

// Position of tile `index` in the upper triangle, column by column: (0,0) (0,1) (1,1) (0,2) ...
__device__ inline void tile_position(int64_t index, int64_t* i, int64_t* j) {
  int64_t col = static_cast<int64_t>((sqrt(8.0 * double(index) + 1.0) - 1.0) / 2.0);
  while (col * (col + 1) / 2 > index) --col;  // the square root may be off by one
  while ((col + 1) * (col + 2) / 2 <= index) ++col;
  *j = col;
  *i = index - col * (col + 1) / 2;
}

template <class T>
struct GramInput {
  View<T> a_old, d_old, a_new, d_new;
};

// Columns [col, col + kRun) of one of the pair's tokens, old before new; zeros from column `end`
// and from token `tokens` on.
template <class T>
__device__ inline Run<T> load_tokens(const View<T>& old_x, const View<T>& new_x,
                                     const PairSlots& pairs, int64_t token, int64_t tokens,
                                     int64_t col, int64_t end) {
  const int64_t n_old = pairs.old_rows.length[blockIdx.y];
  if (token >= tokens) col = end = 0;
  if (token < n_old) return load_run(old_x, pairs.old_rows.start[blockIdx.y] + token, col, end);
  const int64_t row = token < tokens ? pairs.new_rows.start[blockIdx.y] + token - n_old : 0;
  return load_run(new_x, row, col, end);
}

template <class T, class S>
__global__ void __launch_bounds__(kThreads)
    gram_kernel(GramInput<T> in, PairSlots pairs, int64_t first_tile, int64_t tiles_here,
                int64_t slot_parts, S* workspace) {
  const int64_t tokens = pairs.old_rows.length[blockIdx.y] + pairs.new_rows.length[blockIdx.y];
  const GramPlan plan = gram_plan(tokens, in.a_old.cols, in.d_old.cols);
  const int64_t parts = plan.parts_a + plan.parts_d;
  const int64_t local = parts == 0 ? 0 : blockIdx.x / parts,
                part = parts == 0 ? 0 : blockIdx.x % parts;
  const int64_t tile = first_tile + local;
  if (tile >= plan.tiles || local >= tiles_here) return;
  const bool of_a = part < plan.parts_a;
  const View<T> old_x = of_a ? in.a_old : in.d_old, new_x = of_a ? in.a_new : in.d_new;
  const int64_t columns = of_a ? plan.columns_a : plan.columns_d;
  const int64_t begin = (of_a ? part : part - plan.parts_a) * columns;
  const int64_t end = min(begin + columns, old_x.cols);
  int64_t tile_i, tile_j;
  tile_position(tile, &tile_i, &tile_j);

  S* to = workspace + (int64_t(blockIdx.y) * slot_parts + local * parts + part) * kTile * kTile;
  const bool diagonal = tile_i == tile_j;  // both sides are the same tokens, loaded once
  // four adjacent threads load the kDepth columns of one token
  const int t = threadIdx.x / (kDepth / kRun), c = threadIdx.x % (kDepth / kRun) * kRun;
  Run<T> next_x, next_y = {};
  auto load = [&](int64_t col) {
    col = min(col + c, end);
    next_x = load_tokens(old_x, new_x, pairs, tile_j * kTile + t, tokens, col, end);
    if (!diagonal) next_y = load_tokens(old_x, new_x, pairs, tile_i * kTile + t, tokens, col, end);
  };
  load(begin);
  if constexpr (kHasMma<T>) {
    __shared__ SharedTokens s;
    const auto& y = diagonal ? s.x : s.y;
    MmaPiece piece;
    // a warp without entries that combine_kernel reads
    const bool idle = tile_i * kTile + piece.y0 >= tokens || tile_j * kTile + piece.x0 >= tokens ||
                      (diagonal && piece.y0 >= piece.x0 + 32);
    for (int64_t col = begin; col < end; col += kDepth) {
      __syncthreads();
      *reinterpret_cast<uint4*>(&s.x[t][c / 2]) = *reinterpret_cast<const uint4*>(next_x.element);
      if (!diagonal)
        *reinterpret_cast<uint4*>(&s.y[t][c / 2]) = *reinterpret_cast<const uint4*>(next_y.element);
      __syncthreads();
      if (col + kDepth < end) load(col + kDepth);
      if (!idle) piece.template multiply_accumulate<T>(s.x, y);
    }
    if (!idle) piece.store(to);
  } else {
    __shared__ SharedTiles<S> s;  // transposed
    const auto& y = diagonal ? s.x : s.y;
    S acc[4][4] = {};
    for (int64_t col = begin; col < end; col += kDepth) {
      __syncthreads();
#pragma unroll
      for (int k = 0; k < kRun; ++k) {
        s.x[c + k][t] = static_cast<S>(widen(next_x.element[k]));
        if (!diagonal) s.y[c + k][t] = static_cast<S>(widen(next_y.element[k]));
      }
      __syncthreads();
      if (col + kDepth < end) load(col + kDepth);
      multiply_accumulate<S>(s.x, y, acc);
    }
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) to[(4 * ty + i) * kTile + 4 * tx + j] = acc[i][j];
  }
}

// kSums is 3, or 6 with those of the bias, whose gradient is the sum of d over tokens.
template <class S, int kSums>
__global__ void __launch_bounds__(kThreads)
    combine_kernel(PairSlots pairs, int64_t d_in, int64_t d_out, int64_t first_tile,
                   int64_t slot_parts, int64_t slot_tiles, const S* workspace, double* partial) {
  const int64_t n_old = pairs.old_rows.length[blockIdx.y];
  const int64_t tokens = n_old + pairs.new_rows.length[blockIdx.y];
  const GramPlan plan = gram_plan(tokens, d_in, d_out);
  const int64_t tile = first_tile + blockIdx.x, parts = plan.parts_a + plan.parts_d;
  if (tile >= plan.tiles) return;
  int64_t tile_i, tile_j;
  tile_position(tile, &tile_i, &tile_j);
  const S* from =
      workspace + (int64_t(blockIdx.y) * slot_parts + blockIdx.x * parts) * kTile * kTile;
  double sum[kSums] = {};
  for (int e = threadIdx.x; e < kTile * kTile; e += kThreads) {
    const int64_t i = tile_i * kTile + e / kTile, j = tile_j * kTile + e % kTile;
    if (i > j || j >= tokens) continue;
    double a = 0, d = 0;
    for (int64_t p = 0; p < plan.parts_a; ++p) a += double(from[p * kTile * kTile + e]);
    for (int64_t p = plan.parts_a; p < parts; ++p) d += double(from[p * kTile * kTile + e]);
    const double times = i == j ? 1 : 2;
    auto add = [&](int n, double times) {
      sum[n] += times * a * d;
      if constexpr (kSums == 6) sum[3 + n] += times * d;
    };
    if (i >= n_old)
      add(2, times);
    else if (j >= n_old)
      add(0, 1);
    else
      add(1, times);
  }
  block_sum(sum);
  if (threadIdx.x == 0)
    for (int n = 0; n < kSums; ++n) partial[(blockIdx.y * slot_tiles + tile) * kSums + n] = sum[n];
}

}  // namespace lga_fast
