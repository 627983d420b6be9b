// low_rank_update_ on the CPU: one unit of work per tile of the weight.

#include "cpu_dispatch.h"
#include "ops.h"

namespace lga_fast {

void low_rank_update_cpu(const Tensor& weight, const Tensor& left, const Tensor& right,
                         double scale) {
  const LowRankUpdateArgs args = low_rank_update_args(weight, left, right);
  const TileGrid tiles(args.weight.cols, args.weight.rows);
  const CpuKernels& kernels = cpu_kernels();
  for_each_unit(tiles.size(), [&](int64_t tile, void* scratch) {
    kernels.update_unit(args.weight, args.left, args.right, scale, tiles.x(tile), tiles.y(tile),
                        scratch);
  });
}

STABLE_TORCH_LIBRARY_IMPL(lga_fast, CPU, m) {
  m.impl("low_rank_update_", TORCH_BOX(&low_rank_update_cpu));
}

}  // namespace lga_fast
