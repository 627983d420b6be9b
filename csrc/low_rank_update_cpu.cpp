#include <utility>

#include "cpu_dispatch.h"
#include "ops.h"

namespace lga_fast {

void low_rank_update_cpu(const Tensor& weight, const Tensor& left, const Tensor& right,
                         double scale) {
  Factors f = factors_of(weight, left, right);
  Weight w = {
      weight.mutable_data_ptr(), weight.size(0),   weight.size(1),
      weight.stride(0),          weight.stride(1), dtype_of(weight, "low_rank_update_", "weight")};
  if (w.col_stride > w.row_stride) {  // walk memory in its own order
    std::swap(w.rows, w.cols);
    std::swap(w.row_stride, w.col_stride);
    std::swap(f.left, f.right);
  }
  const int64_t tiles_x = ceil_div(w.cols, kGradTileX), tiles_y = ceil_div(w.rows, kGradTileY);
  const CpuKernels& kernels = cpu_kernels();
  for_each_unit(tiles_x * tiles_y, [&](int64_t index, void* scratch) {
    kernels.update_unit(w, f.left, f.right, scale, index % tiles_x * kGradTileX,
                        index / tiles_x * kGradTileY, scratch);
  });
}

STABLE_TORCH_LIBRARY_IMPL(lga_fast, CPU, m) {
  m.impl("low_rank_update_", TORCH_BOX(&low_rank_update_cpu));
}

}  // namespace lga_fast
