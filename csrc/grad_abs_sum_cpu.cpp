#include <algorithm>

#include "cpu_dispatch.h"
#include "ops.h"

namespace lga_fast {

Tensor grad_abs_sum_cpu(const Tensor& a, const Tensor& d, const Tensor& rows) {
  const TokenRows token_rows = token_rows_of(a, d, rows, "grad_abs_sum");
  const int64_t row_count = token_rows.size();
  const int64_t wide = std::max(a.size(1), d.size(1)), other = std::min(a.size(1), d.size(1));
  const int64_t tiles_x = ceil_div(wide, kGradTileX), tiles_y = ceil_div(other, kGradTileY);
  const int64_t tiles = tiles_x * tiles_y;

  std::vector<double> partial(row_count * tiles);
  const CpuKernels& kernels = cpu_kernels();
  for_each_unit(row_count * tiles, [&](int64_t index, void* scratch) {
    const int64_t tile = index % tiles;
    partial[index] = kernels.abs_unit(token_rows[index / tiles], tile % tiles_x * kGradTileX,
                                      tile / tiles_x * kGradTileY, scratch);
  });

  Tensor out = torch::stable::new_empty(a, {row_count}, sum_dtype(a));
  for (int64_t row = 0; row < row_count; ++row) {
    double sum = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) sum += partial[row * tiles + tile];
    if (sum_dtype(a) == ScalarType::Double)
      static_cast<double*>(out.mutable_data_ptr())[row] = sum;
    else
      static_cast<float*>(out.mutable_data_ptr())[row] = static_cast<float>(sum);
  }
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(lga_fast, CPU, m) {
  m.impl("grad_abs_sum", TORCH_BOX(&grad_abs_sum_cpu));
}

}  // namespace lga_fast
