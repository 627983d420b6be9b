// Stands in for the CUDA runtime, and for the part of torch that knows devices.
#include <stdexcept>

#include "cuda_runtime.h"

namespace {

std::string launch_error, told_error;  // before and after cudaGetLastError()
bool unchecked = false;                // whether it has still to be asked
int guards = 0;                        // those alive
char stream;                           // torch's; only its address counts

const char* expected_of(const emu::Launch& l) {
  const uint64_t threads = uint64_t(l.block.x) * l.block.y * l.block.z;
  if (threads == 0 || threads > 1024 || l.block.z > 64)
    return "1 to 1024 threads per block, at most 64 of them along z";
  if (uint64_t(l.grid.x) * l.grid.y * l.grid.z == 0) return "a grid with blocks";
  if (l.grid.x > 0x7fffffffu || l.grid.y > 0xffff || l.grid.z > 0xffff)
    return "a grid of at most 2147483647 x 65535 x 65535 blocks";
  if (l.parameter_bytes > emu::kParameterBytes) return "at most 4 KB of parameters";
  if (l.shared_bytes > emu::kSharedBytes) return "at most 48 KB of shared memory";
  return nullptr;
}

}  // namespace

void emu::run(const Launch& launch, void (*thread)(const void*), const void* call) {
  const std::string kernel = std::string("emulated CUDA: ") + launch.kernel + ": ";
  if (unchecked)
    throw std::runtime_error(kernel + "nobody asked cudaGetLastError() about the launch before");
  if (guards == 0 || launch.stream != &stream)
    throw std::runtime_error(kernel + "expected a device guard and the stream of torch");
  if (const char* expected = expected_of(launch)) {
    launch_error = kernel + "expected " + expected;
  } else {
    const std::string error = run_grid(launch, thread, call);
    if (!error.empty()) throw std::runtime_error(kernel + error);
  }
  unchecked = true;
}

cudaError_t cudaGetLastError() {
  unchecked = false;
  told_error = std::exchange(launch_error, "");
  return told_error.empty() ? cudaSuccess : cudaErrorInvalidConfiguration;
}
const char* cudaGetErrorString(cudaError_t) { return told_error.c_str(); }

// The linker takes these for those of torch, of which a build for the CPU has no streams and
// nothing to guard.
extern "C" {
int aoti_torch_get_current_cuda_stream(int32_t, void** current) {
  *current = &stream;
  return 0;
}
int aoti_torch_create_device_guard(int32_t, void** guard) {
  ++guards;
  *guard = &guards;
  return 0;
}
int aoti_torch_delete_device_guard(void*) {
  --guards;
  return 0;
}
}
