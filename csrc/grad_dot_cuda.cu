// grad_dot on CUDA. Not yet timed on a device: the choices below are arithmetic, not measurement.
//
// A selection brings 8 to 64 pairs of 40 to 400 tokens (old and new together) over 1600 to 16384
// columns: few entries, long sums. So a pair's Gram matrices are cut into 64 x 64 tiles and each
// tile's sum over the columns is split over blocks (at least 256 columns each, at most 32 blocks
// per pair and matrix): 64 pairs at 4096 x 11008 are 64 * (16 + 32) = 3072 blocks for 132
// multiprocessors.
//   1. gram_kernel     a block writes its part of a tile of a.a^T or d.d^T to a workspace
//   2. combine_kernel  adds the parts in order, multiplies the two matrices, sums the tile
//   3. sum_partials    adds a pair's tiles in order
// The cut depends on the pair's shape alone, so a pair's bits do not depend on the others. Sums of
// a part are float (double for double), everything after that is double.
//
// Row bounds come from the host and travel as kernel arguments: no copy, no wait, fit for graphs.
// Inputs are converted to float in shared memory; multiply() on tensor cores (products of 2-byte
// dtypes are exact in float) is the place for the next step, once a device has shown what bounds
// it.

#include <algorithm>

#include "cuda_gram.cuh"
#include "ops.h"

namespace lga_fast {

namespace {

constexpr int64_t kWorkspaceBytes = 64 << 20;

template <class T, class S, bool kIsThin>
__global__ void __launch_bounds__(kThreads)
    tile_kernel(Sides<T> old_side, Sides<T> new_side, PairSlots pairs, double* partial) {
  constexpr int kEntries = kIsThin ? kThin : 16;
  S g_old[kEntries] = {};
  double sum[3] = {};
  auto keep = [&](int e, S g) { g_old[e] = g; };
  auto use = [&](int e, S g) {
    sum[0] += double(g_old[e]) * double(g);
    sum[1] += double(g_old[e]) * double(g_old[e]);
    sum[2] += double(g) * double(g);
  };
  const int64_t old_start = pairs.old_rows.start[blockIdx.y];
  const int64_t new_start = pairs.new_rows.start[blockIdx.y];
  const int64_t n_old = pairs.old_rows.length[blockIdx.y];
  const int64_t n_new = pairs.new_rows.length[blockIdx.y];
  if constexpr (kIsThin) {
    for_each_entry_thin<T, S>(old_side, old_start, n_old, keep);
    for_each_entry_thin<T, S>(new_side, new_start, n_new, use);
  } else {
    __shared__ TileMemory<S> s;
    for_each_entry<T, S>(old_side, old_start, n_old, s, keep);
    for_each_entry<T, S>(new_side, new_start, n_new, s, use);
  }
  block_sum(sum);
  if (threadIdx.x == 0)
    for (int n = 0; n < 3; ++n)
      partial[(int64_t(blockIdx.y) * gridDim.x + blockIdx.x) * 3 + n] = sum[n];
}

// Up to kSlots pairs of one form.
struct Group {
  PairSlots pairs = {};
  Counts counts = {};  // tiles of each, and the pair's place in the result
  int64_t size = 0;
};

struct Call {
  Matrix a_old, d_old, a_new, d_new;
  double* partial;
  void* workspace;
  int64_t tiles, slot_parts, tiles_at_once;  // of the pair that has most
  void* out;
  cudaStream_t stream;
};

template <class T, class S>
void run_gram(const Call& call, const Group& group) {
  const GramInput<T> in = {view_of<T>(call.a_old), view_of<T>(call.d_old), view_of<T>(call.a_new),
                           view_of<T>(call.d_new)};
  S* workspace = static_cast<S*>(call.workspace);
  const unsigned slots = static_cast<unsigned>(group.size);
  for (int64_t first = 0; first < call.tiles; first += call.tiles_at_once) {
    const int64_t tiles = std::min(call.tiles_at_once, call.tiles - first);
    const dim3 parts(static_cast<unsigned>(tiles * (call.slot_parts / call.tiles_at_once)), slots);
    gram_kernel<T, S><<<parts, kThreads, 0, call.stream>>>(in, group.pairs, first, tiles,
                                                           call.slot_parts, workspace);
    check_launch("grad_dot: gram_kernel");
    combine_kernel<S><<<dim3(static_cast<unsigned>(tiles), slots), kThreads, 0, call.stream>>>(
        group.pairs, call.a_old.cols, call.d_old.cols, first, call.slot_parts, call.tiles,
        workspace, call.partial);
    check_launch("grad_dot: combine_kernel");
  }
}

template <class T, class S>
void run_tiles(const Call& call, const Group& group) {
  const Sides<T> old_side = sides_of<T>(call.a_old, call.d_old);
  const Sides<T> new_side = sides_of<T>(call.a_new, call.d_new);
  const dim3 grid(static_cast<unsigned>(call.tiles), static_cast<unsigned>(group.size));
  if (thin(old_side.y.cols))
    tile_kernel<T, S, true>
        <<<grid, kThreads, 0, call.stream>>>(old_side, new_side, group.pairs, call.partial);
  else
    tile_kernel<T, S, false>
        <<<grid, kThreads, 0, call.stream>>>(old_side, new_side, group.pairs, call.partial);
  check_launch("grad_dot: tile_kernel");
}

// Multiply-adds with the padding that this device's tiles bring.
bool gram_is_cheaper(int64_t tokens, int64_t d_in, int64_t d_out) {
  auto up = [](int64_t n) { return double(ceil_div(n, kTile) * kTile); };
  const int64_t x = std::max(d_in, d_out), y = std::min(d_in, d_out);
  const double gram = 0.5 * up(tokens) * (up(tokens) + kTile) * double(d_in + d_out);
  return gram <= double(tokens) * up(x) * (thin(y) ? double(y) : up(y));
}

void run_group(Call call, const Group& group, bool gram, const Tensor& out) {
  if (group.size == 0) return;
  call.tiles = *std::max_element(group.counts.count, group.counts.count + group.size);
  Tensor partial = torch::stable::new_empty(out, {group.size, std::max<int64_t>(call.tiles, 1), 3},
                                            ScalarType::Double);
  call.partial = static_cast<double*>(partial.mutable_data_ptr());
  with_dtype(call.a_old.dtype, [&]<class T, class S>() {
    if (gram && call.tiles > 0) {
      int64_t parts = 0;
      for (int64_t i = 0; i < group.size; ++i) {
        const Plan plan = plan_of(group.pairs.old_rows.length[i] + group.pairs.new_rows.length[i],
                                  call.a_old.cols, call.d_old.cols);
        parts = std::max(parts, plan.parts_a + plan.parts_d);
      }
      const int64_t tile_bytes = group.size * parts * kTile * kTile * int64_t(sizeof(S));
      call.tiles_at_once =
          std::clamp<int64_t>(kWorkspaceBytes / std::max<int64_t>(tile_bytes, 1), 1, call.tiles);
      call.slot_parts = call.tiles_at_once * parts;
      Tensor workspace = torch::stable::new_empty(
          out, {group.size * call.slot_parts * kTile * kTile}, sum_dtype(out));
      call.workspace = workspace.mutable_data_ptr();
      run_gram<T, S>(call, group);
    } else if (!gram) {
      run_tiles<T, S>(call, group);
    }
    sum_partials<3, S><<<static_cast<unsigned>(group.size), kThreads, 0, call.stream>>>(
        call.partial, call.tiles, group.counts, static_cast<S*>(call.out));
    check_launch("grad_dot: sum_partials");
  });
}

}  // namespace

Tensor grad_dot_cuda(const Tensor& a_old, const Tensor& d_old, const Tensor& rows_old,
                     const Tensor& a_new, const Tensor& d_new, const Tensor& rows_new) {
  const GradDotArgs args = grad_dot_args(a_old, d_old, rows_old, a_new, d_new, rows_new);
  const TokenRows &old_rows = args.old_rows, &new_rows = args.new_rows;
  const int64_t pairs = old_rows.size();
  const OnDevice on(a_old);
  Tensor out = torch::stable::new_zeros(a_old, {pairs, 3}, sum_dtype(a_old));
  Call call = {};
  call.a_old = old_rows.a;
  call.d_old = old_rows.d;
  call.a_new = new_rows.a;
  call.d_new = new_rows.d;
  call.out = out.mutable_data_ptr();
  call.stream = on.stream;
  const int64_t d_in = call.a_old.cols, d_out = call.d_old.cols;
  if (d_in == 0 || d_out == 0) return out;

  Group groups[2];  // tiled, Gram
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const RowSpan old_row = old_rows.spans[pair], new_row = new_rows.spans[pair];
    const int64_t tokens = old_row.length + new_row.length;
    if (tokens == 0) continue;  // stays 0
    const bool gram = gram_is_cheaper(tokens, d_in, d_out);
    Group& group = groups[gram];
    const int64_t slot = group.size++;
    group.pairs.old_rows.start[slot] = old_row.start;
    group.pairs.old_rows.length[slot] = old_row.length;
    group.pairs.new_rows.start[slot] = new_row.start;
    group.pairs.new_rows.length[slot] = new_row.length;
    group.counts.count[slot] = gram ? plan_of(tokens, d_in, d_out).tiles : grad_tiles(d_in, d_out);
    group.counts.to[slot] = pair;
    if (group.size == kSlots) {
      run_group(call, group, gram, out);
      group = Group{};
    }
  }
  run_group(call, groups[0], false, out);
  run_group(call, groups[1], true, out);
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(lga_fast, CUDA, m) { m.impl("grad_dot", TORCH_BOX(&grad_dot_cuda)); }

}  // namespace lga_fast

// Asked before the library's kernels are trusted with a device (lga_fast/ops/_library.py).
extern "C" __attribute__((visibility("default"))) const char* lga_fast_cuda_archs() {
  return LGA_CUDA_ARCHS;
}
