// lga_fast._C. Importing it registers the CPU ops (static initializers in *_cpu.cpp); its functions
// report how it was built and select the instruction set.

#include <pybind11/pybind11.h>
#include <torch/headeronly/version.h>

#include "cpu_dispatch.h"

namespace py = pybind11;
using namespace py::literals;

PYBIND11_MODULE(_C, m) {
  m.def("build_info", [] {
    py::list levels;
    for (const lga_fast::CpuKernels* level : lga_fast::supported_cpu_kernels())
      levels.append(level->level);
    return py::dict("compiler"_a = LGA_COMPILER, "flags"_a = LGA_FLAGS,
                    "torch_target_version"_a = LGA_TORCH_TARGET,
                    "torch_built_with"_a = TORCH_VERSION, "cuda_archs"_a = LGA_CUDA_ARCHS,
                    "cpu_levels"_a = levels, "cpu_level"_a = lga_fast::cpu_kernels().level,
                    "sanitize"_a = LGA_SANITIZE);
  });
  m.def(
      "use_cpu_level",
      [](const std::string& name) {
        for (const lga_fast::CpuKernels* level : lga_fast::supported_cpu_kernels())
          if (name == level->level) {
            lga_fast::active_cpu_kernels() = level;
            return;
          }
        throw py::value_error("use_cpu_level: expected one of build_info()['cpu_levels'], got " +
                              name);
      },
      "Select one of build_info()['cpu_levels']. For tests and benchmarks.");
}
