// Kernels and launches that CUDA does not allow, one per name, and a few that it does:
// test_emulator.py.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <functional>
#include <map>
#include <stdexcept>
#include <string>

namespace {

constexpr unsigned kAll = 0xffffffffu;

__global__ void barrier_for_some(int n) {
  if (int(threadIdx.x) < n) __syncthreads();
}
__global__ void two_barriers(int n) {
  if (int(threadIdx.x) < n) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void shuffle(unsigned mask, int lanes, float* out) {
  if (int(threadIdx.x) < lanes) *out = __shfl_down_sync(mask, 1.0f, 1);
}
__global__ void sum_of_lanes(float* out) {
  float sum = float(threadIdx.x);
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(kAll, sum, offset);
  if (threadIdx.x == 0) *out = sum;
}
__global__ void load_vector(const float* from, float* out) {
  *out = float(__ldg(reinterpret_cast<const uint4*>(from)).x);
}
__global__ void write_shared(int index, float* out) {
  __shared__ float values[4];
  values[index] = 1;
  *out = values[0];
}
__global__ void much_shared(float* out) {
  __shared__ double values[48 * 128 + 1];
  values[threadIdx.x] = 1;
  *out = float(values[0]);
}
__global__ void last_writer(int n, float* out) {
  __shared__ float last;
  last = float(threadIdx.x);
  __syncthreads();
  if (int(threadIdx.x) == n) *out += last * 32 * float(blockIdx.x);
}
struct Parameters {
  char bytes[4096];
};
__global__ void many_parameters(Parameters, int) {}
__global__ void nothing() {}

cudaStream_t stream() {
  void* current = nullptr;
  aoti_torch_get_current_cuda_stream(0, &current);
  return static_cast<cudaStream_t>(current);
}
struct Guard {
  Guard() { aoti_torch_create_device_guard(0, &handle); }
  ~Guard() { aoti_torch_delete_device_guard(handle); }
  DeviceGuardHandle handle;
};

const std::map<std::string, std::function<void(float*)>> kFaults = {
    {"barrier_for_some", [](float*) { barrier_for_some<<<1, 32, 0, stream()>>>(7); }},
    {"two_barriers", [](float*) { two_barriers<<<1, 32, 0, stream()>>>(7); }},
    {"mask_without_self", [](float* out) { shuffle<<<1, 32, 0, stream()>>>(0xffff, 32, out); }},
    {"absent_lane", [](float* out) { shuffle<<<1, 40, 0, stream()>>>(kAll, 40, out); }},
    {"other_branch", [](float* out) { shuffle<<<1, 32, 0, stream()>>>(kAll, 31, out); }},
    {"sum_of_lanes", [](float* out) { sum_of_lanes<<<1, 32, 0, stream()>>>(out); }},
    {"misaligned", [](float* out) { load_vector<<<1, 1, 0, stream()>>>(out + 1, out); }},
    {"unwritten", [](float* out) { write_shared<<<1, 1, 0, stream()>>>(1, out); }},
    {"beside", [](float* out) { write_shared<<<1, 1, 0, stream()>>>(4, out); }},
    {"much_shared", [](float* out) { much_shared<<<1, 1, 0, stream()>>>(out); }},
    {"last_writer", [](float* out) { last_writer<<<3, 32, 0, stream()>>>(7, out); }},
    {"threads", [](float*) { nothing<<<1, 1025, 0, stream()>>>(); }},
    {"no_blocks", [](float*) { nothing<<<0, 32, 0, stream()>>>(); }},
    {"grid", [](float*) { nothing<<<dim3(1, 65536), 32, 0, stream()>>>(); }},
    {"dynamic_shared", [](float*) { nothing<<<1, 32, 49153, stream()>>>(); }},
    {"parameters", [](float*) { many_parameters<<<1, 32, 0, stream()>>>(Parameters(), 0); }},
    {"other_stream", [](float*) { nothing<<<1, 32, 0, nullptr>>>(); }},
    {"unchecked",
     [](float*) {
       nothing<<<1, 32, 0, stream()>>>();
       nothing<<<1, 32, 0, stream()>>>();
     }},
};

}  // namespace

// What is said of the launch; "" if nothing. `guarded`: whether a device is guarded.
extern "C" __attribute__((visibility("default"))) const char* run_fault(const char* name,
                                                                        bool guarded, float* out) {
  static std::string message;
  message.clear();
  try {
    if (guarded) {
      const Guard guard;
      kFaults.at(name)(out);
    } else {
      kFaults.at(name)(out);
    }
  } catch (const std::exception& error) {
    message = error.what();
  }
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) message = cudaGetErrorString(error);
  return message.c_str();
}
