// Selects the CPU kernels for this processor and runs their units of work on torch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "cpu_kernels.h"

namespace lga_fast {

// The kernel tables this processor can run, fastest last.
inline std::vector<const CpuKernels*> supported_cpu_kernels() {
  std::vector<const CpuKernels*> supported = {&baseline::kernels()};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    supported.push_back(&avx2::kernels());
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
      supported.push_back(&avx512::kernels());
  }
#endif
  return supported;
}

// The table in use. Only tests and benchmarks change it (_C.use_cpu_level); no environment variable
// does, since results must not depend on the environment.
inline const CpuKernels*& active_cpu_kernels() {
  static const CpuKernels* active = supported_cpu_kernels().back();
  return active;
}
inline const CpuKernels& cpu_kernels() { return *active_cpu_kernels(); }

// Per-thread scratch, kept between calls: page faults on a fresh half megabyte per call would cost
// more than the sums at small sizes.
inline void* cpu_scratch() {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<void, Free> scratch;
  if (!scratch) {
    int64_t bytes = 0;
    for (const CpuKernels* level : supported_cpu_kernels())
      bytes = std::max(bytes, level->scratch_bytes);
    bytes = ceil_div(bytes, 64) * 64;
    scratch.reset(std::aligned_alloc(64, bytes));
    if (!scratch) throw std::bad_alloc();
  }
  return scratch.get();
}

// The tiles of kGradTileX columns and kGradTileY rows that cover a matrix, row by row.
class TileGrid {
 public:
  TileGrid(int64_t cols, int64_t rows)
      : across_(ceil_div(cols, kGradTileX)), down_(ceil_div(rows, kGradTileY)) {}
  // The grid over G or its transpose, whichever has the wider side along x.
  static TileGrid of_grad(int64_t d_in, int64_t d_out) {
    return {std::max(d_in, d_out), std::min(d_in, d_out)};
  }
  int64_t size() const { return across_ * down_; }
  int64_t x(int64_t index) const { return index % across_ * kGradTileX; }
  int64_t y(int64_t index) const { return index / across_ * kGradTileY; }

 private:
  int64_t across_, down_;
};

// Calls unit(index, scratch) for every index below `units`, on torch's threads.
template <class Unit>
void for_each_unit(int64_t units, const Unit& unit) {
  torch::stable::parallel_for(0, units, 1, [&](int64_t begin, int64_t end) {
    void* scratch = cpu_scratch();
    for (int64_t index = begin; index < end; ++index) unit(index, scratch);
  });
}

}  // namespace lga_fast
