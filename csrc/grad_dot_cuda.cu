// grad_dot on CUDA. Not yet timed on a device: the choices below are estimates, not measurements.
//
// A selection typically has 8 to 64 pairs of 40 to 400 tokens (old and new together) over 1600 to
// 16384 columns: few entries, long sums. A pair's Gram matrices are therefore cut into 64 x 64
// tiles, and the sum over columns of each tile is split over blocks: at least 256 columns per block
// and at most 32 blocks per pair and matrix. 64 pairs at 4096 x 11008 give 64 * (16 + 32) = 3072
// blocks for 132 multiprocessors.
//   1. gram_kernel     each block writes its part of a tile of a.a^T or d.d^T to a workspace
//   2. combine_kernel  adds the parts in order, multiplies the two matrices, sums the tile
//   3. sum_partials    adds the tiles of a pair in order
// The split depends on the shape of the pair alone, so other pairs do not change a bit of its
// result. A part is summed in float (in double for double inputs), everything after that in double.
//
// The bias's sums come with the Gram matrix of d. Where a pair is tiled they are those of a matrix
// with one column, which is 1: a group of its own.
//
// Row bounds are kernel arguments: no copy, no synchronization. Gram tiles of 2-byte dtypes run on
// tensor cores (cuda_mma.cuh), all else in float, or in double, by multiply_accumulate().

#include <algorithm>

#include "cuda_gram.cuh"
#include "cuda_tile.cuh"
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
    __shared__ SharedTiles<S> s;
    for_each_entry<T, S>(old_side, old_start, n_old, s, keep);
    for_each_entry<T, S>(new_side, new_start, n_new, s, use);
  }
  block_sum(sum);
  if (threadIdx.x == 0)
    for (int n = 0; n < 3; ++n)
      partial[(int64_t(blockIdx.y) * gridDim.x + blockIdx.x) * 3 + n] = sum[n];
}

enum Form { kTiles, kGram, kBias, kForms };

// Up to kSlots pairs of one form.
struct Group {
  PairSlots pairs = {};
  SumSlots sums = {};  // per pair: its number of tiles, the place of its sums in the result
  int64_t size = 0;
};

struct Call {
  const GradDotArgs& args;
  const Tensor& out;  // [pair 3] or, with those of the bias, [pair 2 3]
  bool bias;
  cudaStream_t stream;

  int64_t d_in() const { return args.old_rows.a.cols; }
  int64_t d_out() const { return args.old_rows.d.cols; }
};

template <class T, class S, int kSums>
void run_gram(const Call& call, const Group& group, int64_t slot_tiles, double* partial) {
  int64_t tile_parts = 0;  // parts of one tile, the most that any pair has
  for (int64_t i = 0; i < group.size; ++i) {
    const int64_t tokens = group.pairs.old_rows.length[i] + group.pairs.new_rows.length[i];
    const GramPlan plan = gram_plan(tokens, call.d_in(), call.d_out());
    tile_parts = std::max(tile_parts, plan.parts_a + plan.parts_d);
  }
  const int64_t entries = group.size * tile_parts * kTile * kTile;  // of one tile per pair
  const int64_t tiles_at_once =
      std::clamp<int64_t>(kWorkspaceBytes / (entries * int64_t(sizeof(S))), 1, slot_tiles);
  const int64_t slot_parts = tiles_at_once * tile_parts;
  Tensor workspace =
      torch::stable::new_empty(call.out, {tiles_at_once * entries}, sum_dtype(call.out));
  S* parts = static_cast<S*>(workspace.mutable_data_ptr());

  const TokenRows &old_rows = call.args.old_rows, &new_rows = call.args.new_rows;
  const GramInput<T> in = {view_of<T>(old_rows.a), view_of<T>(old_rows.d), view_of<T>(new_rows.a),
                           view_of<T>(new_rows.d)};
  const unsigned slots = static_cast<unsigned>(group.size);
  for (int64_t first = 0; first < slot_tiles; first += tiles_at_once) {
    const int64_t tiles = std::min(tiles_at_once, slot_tiles - first);
    const dim3 part_grid(static_cast<unsigned>(tiles * tile_parts), slots);
    gram_kernel<T, S>
        <<<part_grid, kThreads, 0, call.stream>>>(in, group.pairs, first, tiles, slot_parts, parts);
    check_launch("grad_dot: gram_kernel");
    const dim3 tile_grid(static_cast<unsigned>(tiles), slots);
    combine_kernel<S, kSums><<<tile_grid, kThreads, 0, call.stream>>>(
        group.pairs, call.d_in(), call.d_out(), first, slot_parts, slot_tiles, parts, partial);
    check_launch("grad_dot: combine_kernel");
  }
}

template <class T, class S>
void run_tiles(const Call& call, const Group& group, int64_t slot_tiles, double* partial) {
  const Sides<T> old_side = sides_of<T>(call.args.old_rows.a, call.args.old_rows.d);
  const Sides<T> new_side = sides_of<T>(call.args.new_rows.a, call.args.new_rows.d);
  const dim3 grid(static_cast<unsigned>(slot_tiles), static_cast<unsigned>(group.size));
  if (is_thin(old_side.y.cols))
    tile_kernel<T, S, true>
        <<<grid, kThreads, 0, call.stream>>>(old_side, new_side, group.pairs, partial);
  else
    tile_kernel<T, S, false>
        <<<grid, kThreads, 0, call.stream>>>(old_side, new_side, group.pairs, partial);
  check_launch("grad_dot: tile_kernel");
}

// Compares multiply-adds, including the padding to whole tiles.
bool gram_is_cheaper(int64_t tokens, int64_t d_in, int64_t d_out) {
  auto up = [](int64_t n) { return double(ceil_div(n, kTile) * kTile); };
  const int64_t x = std::max(d_in, d_out), y = std::min(d_in, d_out);
  const double gram = 0.5 * up(tokens) * (up(tokens) + kTile) * double(d_in + d_out);
  return gram <= double(tokens) * up(x) * (is_thin(y) ? double(y) : up(y));
}

void run_group(const Call& call, const Group& group, Form form) {
  if (group.size == 0) return;
  const int64_t sums_of_one = form == kGram && call.bias ? 6 : 3;
  const int64_t slot_tiles = *std::max_element(group.sums.count, group.sums.count + group.size);
  Tensor partial =
      torch::stable::new_empty(call.out, {group.size, slot_tiles, sums_of_one}, ScalarType::Double);
  double* sums = static_cast<double*>(partial.mutable_data_ptr());
  const unsigned slots = static_cast<unsigned>(group.size);
  dispatch_dtype(call.args.old_rows.a.dtype, [&]<class T, class S>() {
    S* out = static_cast<S*>(call.out.mutable_data_ptr());
    if (sums_of_one == 6) {
      run_gram<T, S, 6>(call, group, slot_tiles, sums);
      sum_partials<6, S><<<slots, kThreads, 0, call.stream>>>(sums, slot_tiles, group.sums, out);
    } else {
      if (form == kGram)
        run_gram<T, S, 3>(call, group, slot_tiles, sums);
      else
        run_tiles<T, S>(call, group, slot_tiles, sums);
      sum_partials<3, S><<<slots, kThreads, 0, call.stream>>>(sums, slot_tiles, group.sums, out);
    }
    check_launch("grad_dot: sum_partials");
  });
}

}  // namespace

Tensor grad_dot_cuda(const Tensor& a_old, const Tensor& d_old, const Tensor& rows_old,
                     const Tensor& a_new, const Tensor& d_new, const Tensor& rows_new, bool bias) {
  const GradDotArgs args = grad_dot_args(a_old, d_old, rows_old, a_new, d_new, rows_new);
  const DeviceContext context(a_old);
  const int64_t pairs = args.old_rows.size(), parts = bias ? 2 : 1;
  Tensor out = bias ? torch::stable::new_zeros(a_old, {pairs, 2, 3}, sum_dtype(a_old))
                    : torch::stable::new_zeros(a_old, {pairs, 3}, sum_dtype(a_old));
  const int64_t d_in = args.old_rows.a.cols, d_out = args.old_rows.d.cols;
  if (d_out == 0 || (d_in == 0 && !bias)) return out;

  const Call call = {args, out, bias, context.stream};
  Tensor one;  // made where a group needs it
  GradDotArgs bias_args = {};
  auto run = [&](Group& group, Form form) {
    if (form != kBias) {
      run_group(call, group, form);
    } else if (group.size > 0) {
      if (!bias_args.old_rows.a.data) {
        one = torch::stable::fill_(torch::stable::new_empty(a_old, {1}), 1);
        bias_args = bias_of(args, one.const_data_ptr());
      }
      run_group({bias_args, out, bias, context.stream}, group, form);
    }
    group = Group{};
  };

  Group groups[kForms];
  auto add = [&](Form form, int64_t pair, int64_t tiles, int64_t out_index) {
    const RowSpan old_row = args.old_rows.spans[pair], new_row = args.new_rows.spans[pair];
    Group& group = groups[form];
    const int64_t slot = group.size++;
    group.pairs.old_rows.start[slot] = old_row.start;
    group.pairs.old_rows.length[slot] = old_row.length;
    group.pairs.new_rows.start[slot] = new_row.start;
    group.pairs.new_rows.length[slot] = new_row.length;
    group.sums.count[slot] = tiles;
    group.sums.out_index[slot] = out_index;
    if (group.size == kSlots) run(group, form);
  };
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const int64_t tokens = args.old_rows.spans[pair].length + args.new_rows.spans[pair].length;
    if (tokens == 0) continue;  // its sums stay 0
    if (gram_is_cheaper(tokens, d_in, d_out)) {
      add(kGram, pair, gram_plan(tokens, d_in, d_out).tiles, pair);
    } else {
      add(kTiles, pair, grad_tiles(d_in, d_out), parts * pair);
      if (bias) add(kBias, pair, grad_tiles(1, d_out), parts * pair + 1);
    }
  }
  for (int form = 0; form < kForms; ++form) run(groups[form], static_cast<Form>(form));
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(lga_fast, CUDA, m) { m.impl("grad_dot", TORCH_BOX(&grad_dot_cuda)); }

}  // namespace lga_fast
