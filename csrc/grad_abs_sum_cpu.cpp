// grad_abs_sum on the CPU: one unit of work per row and tile of G. Partial sums are added in order.

#include "cpu_dispatch.h"
#include "ops.h"

namespace lga_fast {

Tensor grad_abs_sum_cpu(const Tensor& a, const Tensor& d, const Tensor& rows) {
  const TokenRows token_rows = token_rows_of(a, d, rows, "grad_abs_sum");
  const TileGrid tiles = TileGrid::of_grad(token_rows.a.cols, token_rows.d.cols);
  const int64_t units = token_rows.size() * tiles.size();

  std::vector<double> partial(units);
  const CpuKernels& kernels = cpu_kernels();
  for_each_unit(units, [&](int64_t unit, void* scratch) {
    const int64_t row = unit / tiles.size(), tile = unit % tiles.size();
    partial[unit] = kernels.abs_unit(token_rows[row], tiles.x(tile), tiles.y(tile), scratch);
  });

  std::vector<double> sums(token_rows.size());
  for (int64_t unit = 0; unit < units; ++unit) sums[unit / tiles.size()] += partial[unit];
  Tensor out = torch::stable::new_empty(a, {token_rows.size()}, sum_dtype(a));
  store_sums(sums, out);
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(lga_fast, CPU, m) {
  m.impl("grad_abs_sum", TORCH_BOX(&grad_abs_sum_cpu));
}

}  // namespace lga_fast
