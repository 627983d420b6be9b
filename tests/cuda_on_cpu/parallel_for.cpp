// torch's parallel loop on std::thread, preloaded for ThreadSanitizer: torch runs it on OpenMP,
// whose synchronization the sanitizer does not see.
#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

extern "C" __attribute__((visibility("default"))) int torch_parallel_for(
    int64_t begin, int64_t end, int64_t, void (*body)(int64_t, int64_t, void*), void* context) {
  constexpr int64_t kThreads = 4;
  const int64_t share = (end - begin + kThreads - 1) / kThreads;
  std::vector<std::thread> threads;
  for (int64_t from = begin; from < end; from += share)
    threads.emplace_back(body, from, std::min(from + share, end), context);
  for (std::thread& thread : threads) thread.join();
  return 0;
}
