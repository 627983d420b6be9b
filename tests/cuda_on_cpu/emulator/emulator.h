// What CUDA code that rewrite.py has turned into C++ calls in place of the language and the
// runtime.
//
// A warp-wide instruction (mma.h) is one function on top of exchange(): each lane gives its
// fragment, sees those of all lanes, and computes its part of the result. cp.async would be a copy
// that stays in a list until its group is waited for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <string>
#include <tuple>
#include <utility>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emu {

using Site = std::source_location;

// Of the thread that runs. Only the engine writes them, so the sanitizers see no race.
extern uint3 thread_index, block_index;
extern dim3 block_size, grid_size;

struct Launch {
  const char* kernel;
  dim3 grid, block;
  size_t shared_bytes;
  const void* stream;
  size_t parameter_bytes;
};
// Runs the grid, or leaves an error for cudaGetLastError() as a launch does that CUDA refuses.
// Throws std::runtime_error if the kernel, or the launch, does what it must not.
void run(const Launch& launch, void (*thread)(const void* call), const void* call);
// Runs it whatever its size. Returns what a thread did wrong.
std::string run_grid(const Launch& launch, void (*thread)(const void* call), const void* call);
constexpr size_t kSharedBytes = 48 << 10, kParameterBytes = 4096;  // what CUDA allows

// Ends the launch with an error; called by a thread of the kernel.
[[noreturn]] void fail(const std::string& message, Site at);
void barrier(Site at);
void warp_barrier(unsigned mask, Site at);
// What the lanes of `mask` gave, for all 32, valid until the thread's next call; the rest is NaN.
using Parcel = std::array<uint64_t, 3>;
const Parcel* exchange(unsigned mask, const Parcel& mine, Site at);
unsigned lane();
// A variable in the block's shared memory, known by the address of a constant beside its
// declaration.
void* shared(const void* key, size_t bytes, Site at);

template <class T>
T& shared(const void* key, Site at = Site::current()) {
  return *static_cast<T*>(shared(key, sizeof(T), at));
}

template <class... P>
size_t parameter_bytes() {
  size_t bytes = 0;
  ((bytes = (bytes + alignof(P) - 1) / alignof(P) * alignof(P) + sizeof(P)), ...);
  return bytes;
}

template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
            const void* stream, A&&... arguments) {
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> parameters;
  };
  const Call call = {kernel, {std::forward<A>(arguments)...}};
  run(
      {name, grid, block, shared_bytes, stream, parameter_bytes<P...>()},
      [](const void* call) {
        const Call& c = *static_cast<const Call*>(call);
        std::apply(c.kernel, c.parameters);
      },
      &call);
}

}  // namespace emu
