// Whether this machine can run the CUDA kernels. A library of its own, asked before the kernels are
// loaded: loading registers them, and torch cannot be told to forget them again.

#include <cuda_runtime.h>

#define LGA_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

__global__ void empty_kernel() {}

}  // namespace

// What was built, like "sm_80,sm_90,compute_90".
LGA_EXPORT const char* lga_fast_cuda_archs() { return LGA_CUDA_ARCHS; }

// 86 for compute capability 8.6; 0 if the device or the runtime does not answer.
LGA_EXPORT int lga_fast_cuda_capability(int device) {
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  cudaGetLastError();  // launches report errors themselves
  return 10 * major + minor;
}

// Runs a kernel on the device. Returns nullptr, or what the runtime says.
LGA_EXPORT const char* lga_fast_cuda_probe(int device) {
  int before = 0;
  cudaError_t error = cudaGetDevice(&before);
  if (error == cudaSuccess) error = cudaSetDevice(device);
  if (error == cudaSuccess) {
    empty_kernel<<<1, 1>>>();
    error = cudaGetLastError();
    if (error == cudaSuccess) error = cudaDeviceSynchronize();
    cudaSetDevice(before);
  }
  cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
