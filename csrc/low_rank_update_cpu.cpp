#include "cpu_dispatch.h"
#include "ops.h"

namespace lga_fast {

void low_rank_update_cpu(const Tensor& weight, const Tensor& left, const Tensor& right,
                         double scale) {
  const LowRankUpdateArgs args = low_rank_update_args(weight, left, right);
  const int64_t tiles_x = ceil_div(args.weight.cols, kGradTileX);
  const int64_t tiles_y = ceil_div(args.weight.rows, kGradTileY);
  const CpuKernels& kernels = cpu_kernels();
  for_each_unit(tiles_x * tiles_y, [&](int64_t index, void* scratch) {
    kernels.update_unit(args.weight, args.left, args.right, scale, index % tiles_x * kGradTileX,
                        index / tiles_x * kGradTileY, scratch);
  });
}

STABLE_TORCH_LIBRARY_IMPL(lga_fast, CPU, m) {
  m.impl("low_rank_update_", TORCH_BOX(&low_rank_update_cpu));
}

}  // namespace lga_fast
