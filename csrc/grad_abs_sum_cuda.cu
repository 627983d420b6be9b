// grad_abs_sum on CUDA: one block per row and tile of G, then one block per row that adds the sums
// of its tiles in order.

#include <algorithm>

#include "cuda_tile.cuh"
#include "ops.h"

namespace lga_fast {

namespace {

template <class T, class S, bool kIsThin>
__global__ void __launch_bounds__(kThreads)
    abs_kernel(Sides<T> side, RowSlots rows, double* partial) {
  const int64_t start = rows.start[blockIdx.y], length = rows.length[blockIdx.y];
  S sum = 0;
  auto use = [&](int, S g) { sum += g < 0 ? -g : g; };  // propagates NaN
  if constexpr (kIsThin) {
    for_each_entry_thin<T, S>(side, start, length, use);
  } else {
    __shared__ SharedTiles<S> s;
    for_each_entry<T, S>(side, start, length, s, use);
  }
  double total[1] = {static_cast<double>(sum)};
  block_sum(total);
  if (threadIdx.x == 0) partial[int64_t(blockIdx.y) * gridDim.x + blockIdx.x] = total[0];
}

}  // namespace

Tensor grad_abs_sum_cuda(const Tensor& a, const Tensor& d, const Tensor& rows) {
  const TokenRows token_rows = token_rows_of(a, d, rows, "grad_abs_sum");
  const int64_t count = token_rows.size(), d_in = token_rows.a.cols, d_out = token_rows.d.cols;
  Tensor out = torch::stable::new_zeros(a, {count}, sum_dtype(a));
  if (count == 0 || d_in == 0 || d_out == 0) return out;
  const int64_t tiles = grad_tiles(d_in, d_out);

  const DeviceContext context(a);
  Tensor partial =
      torch::stable::new_empty(a, {std::min<int64_t>(count, kSlots), tiles}, ScalarType::Double);
  double* sums = static_cast<double*>(partial.mutable_data_ptr());
  for (int64_t first = 0; first < count; first += kSlots) {
    const int64_t slots = std::min<int64_t>(kSlots, count - first);
    RowSlots row_slots = {};
    SumSlots sum_slots = {};
    for (int64_t i = 0; i < slots; ++i) {
      row_slots.start[i] = token_rows.spans[first + i].start;
      row_slots.length[i] = token_rows.spans[first + i].length;
      sum_slots.count[i] = tiles;
      sum_slots.out_index[i] = first + i;
    }
    const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(slots));
    dispatch_dtype(token_rows.a.dtype, [&]<class T, class S>() {
      const Sides<T> side = sides_of<T>(token_rows.a, token_rows.d);
      if (is_thin(side.y.cols))
        abs_kernel<T, S, true><<<grid, kThreads, 0, context.stream>>>(side, row_slots, sums);
      else
        abs_kernel<T, S, false><<<grid, kThreads, 0, context.stream>>>(side, row_slots, sums);
      check_launch("grad_abs_sum");
      sum_partials<1, S><<<static_cast<unsigned>(slots), kThreads, 0, context.stream>>>(
          sums, tiles, sum_slots, static_cast<S*>(out.mutable_data_ptr()));
      check_launch("grad_abs_sum");
    });
  }
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(lga_fast, CUDA, m) {
  m.impl("grad_abs_sum", TORCH_BOX(&grad_abs_sum_cuda));
}

}  // namespace lga_fast
