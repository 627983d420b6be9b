// Runs a grid on one CPU thread. The threads of a block are fibers, which run in random order from
// one barrier to the next; blocks run in random order too. Code that relies on an order that CUDA
// does not promise will sooner or later meet another one.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cuda_runtime.h"
#include "fiber.h"
#include "shared_memory.h"

namespace emu {

uint3 thread_index, block_index;
dim3 block_size, grid_size;

namespace {

// With ThreadSanitizer, blocks take turns in sets of fibers that know nothing of each other.
constexpr int kTurns = kTsan ? 3 : 1;

constexpr Parcel kNan = {~uint64_t(0), ~uint64_t(0), ~uint64_t(0)};

enum class State { kReady, kAtBarrier, kInWarp, kEnded };
struct Thread : Fiber {
  Thread();
  State state = State::kEnded;
  Site site;         // of what it waits for
  unsigned mask;     // the lanes it exchanges values with
  Parcel outbox;     // what it gives them
  Parcel inbox[32];  // what they gave
};
struct Block {
  std::vector<std::unique_ptr<Thread>> threads;
  unsigned waiting, ended;
  Site barrier_site;
  const void *start_tag = nullptr, *end_tag = nullptr, *barrier_tag, *warp_tags[32];
  SharedMemory shared;
};

std::unique_ptr<Block> blocks[kTurns];
Block* block;  // the block, and in it the thread, that runs
unsigned self, threads;
std::vector<unsigned> ready;
std::string error;              // of the kernel
char launch_start, launch_end;  // only their addresses count
void (*thread_function)(const void*);
const void* thread_argument;
std::mt19937 random_bits([] {
  const char* seed = std::getenv("LGA_FAST_EMULATOR_SEED");
  return seed ? std::strtoul(seed, nullptr, 10) : 0;
}());

Thread& thread(unsigned index) { return *block->threads[index]; }
void resume(unsigned index) {
  thread(index).state = State::kReady;
  ready.push_back(index);
}
void wait() { switch_to(thread(self), host()); }

Thread::Thread()
    : Fiber([] {
        arrive(thread(self), nullptr);
        for (;;) {
          tsan_acquire(&launch_start);
          tsan_acquire(block->start_tag);
          thread_function(thread_argument);
          tsan_release(block->end_tag);
          tsan_release(&launch_end);
          thread(self).state = State::kEnded;
          ++block->ended;
          wait();
        }
      }) {}

std::string place(Site at) { return std::string(at.file_name()) + ":" + std::to_string(at.line()); }
bool same(Site a, Site b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::string_view(a.file_name()) == b.file_name());
}

// What the threads wait for, when none can go on.
std::string deadlock() {
  std::string text =
      std::to_string(block->ended) + " of " + std::to_string(threads) + " threads have ended";
  std::vector<bool> told(threads);
  for (unsigned i = 0; i < threads; ++i) {
    if (told[i] || thread(i).state == State::kEnded) continue;
    unsigned count = 0;
    for (unsigned j = i; j < threads; ++j)
      if (thread(j).state == thread(i).state && same(thread(j).site, thread(i).site)) {
        told[j] = true;
        ++count;
      }
    text += ", " + std::to_string(count) + " wait ";
    text +=
        thread(i).state == State::kAtBarrier ? "at the barrier " : "for lanes of their warp at ";
    text += place(thread(i).site);
  }
  return text;
}

void start_block(unsigned index) {
  block->shared.clear();
  block->waiting = block->ended = 0;
  block->start_tag = block->end_tag ? block->end_tag : fresh_tag();
  block->end_tag = fresh_tag();
  block->barrier_tag = fresh_tag();
  for (const void*& tag : block->warp_tags) tag = fresh_tag();
  block_index = {index % grid_size.x, index / grid_size.x % grid_size.y,
                 index / grid_size.x / grid_size.y};
  while (block->threads.size() < threads) block->threads.push_back(std::make_unique<Thread>());
  for (unsigned i = 0; i < threads; ++i) resume(i);
}

void run_block() {
  while (block->ended < threads && error.empty()) {
    if (ready.empty()) {
      error = deadlock();
      return;
    }
    std::swap(ready[random_bits() % ready.size()], ready.back());
    self = ready.back();
    ready.pop_back();
    thread_index = {self % block_size.x, self / block_size.x % block_size.y,
                    self / block_size.x / block_size.y};
    switch_to(host(), thread(self));
  }
  if (error.empty() && !block->shared.gaps_are_intact())
    error = "a write outside of every __shared__ variable";
}

}  // namespace

// ---- the host

std::string run_grid(const Launch& l, void (*function)(const void*), const void* argument) {
  block_size = l.block, grid_size = l.grid;
  threads = l.block.x * l.block.y * l.block.z;
  thread_function = function, thread_argument = argument;
  host_arrives();
  tsan_release(&launch_start);
  std::vector<unsigned> order(size_t(l.grid.x) * l.grid.y * l.grid.z);
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random_bits);
  for (size_t i = 0; i < order.size() && error.empty(); ++i) {
    std::unique_ptr<Block>& turn = blocks[i % kTurns];
    if (!turn) turn = std::make_unique<Block>();
    block = turn.get();
    start_block(order[i]);
    run_block();
  }
  tsan_acquire(&launch_end);
  if (error.empty()) return "";
  for (std::unique_ptr<Block>& turn : blocks) turn.reset();  // its threads cannot be resumed
  ready.clear();
  return "block (" + std::to_string(block_index.x) + ", " + std::to_string(block_index.y) + ", " +
         std::to_string(block_index.z) + "): " + std::exchange(error, "");
}

// ---- threads

void fail(const std::string& message, Site at) {
  error = message + " at " + place(at);
  for (;;) wait();
}

unsigned lane() { return self % 32; }

void barrier(Site at) {
  if (block->waiting == 0) block->barrier_site = at;
  if (!same(block->barrier_site, at))
    fail("some threads wait at the barrier " + place(block->barrier_site) + ", others", at);
  thread(self).state = State::kAtBarrier;
  thread(self).site = at;
  const void* tag = block->barrier_tag;
  tsan_release(tag);
  if (++block->waiting == threads) {
    block->waiting = 0;
    block->barrier_tag = fresh_tag();
    for (unsigned i = 0; i < threads; ++i) resume(i);
  }
  wait();
  tsan_acquire(tag);
}

// Like hardware, an exchange orders no accesses to memory: that is what warp_barrier() is for.
const Parcel* exchange(unsigned mask, const Parcel& parcel, Site at) {
  Thread& mine = thread(self);
  if (!(mask >> lane() & 1)) fail("a lane that its own mask does not name", at);
  mine.state = State::kInWarp;
  mine.site = at, mine.mask = mask, mine.outbox = parcel;
  const unsigned first = self - lane();
  bool all_here = true;
  for (unsigned i = 0; i < 32 && all_here; ++i) {
    if (!(mask >> i & 1)) continue;
    if (first + i >= threads || thread(first + i).state == State::kEnded)
      fail("a mask that names a lane that is not there", at);
    const Thread& other = thread(first + i);
    all_here = other.state == State::kInWarp && same(other.site, at);
    if (all_here && other.mask != mask) fail("different masks in one operation", at);
  }
  for (unsigned i = 0; all_here && i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    for (unsigned j = 0; j < 32; ++j)
      thread(first + i).inbox[j] = mask >> j & 1 ? thread(first + j).outbox : kNan;
    resume(first + i);
  }
  wait();
  return mine.inbox;
}

void warp_barrier(unsigned mask, Site at) {
  const unsigned warp = self / 32;
  const void* tag = block->warp_tags[warp];
  tsan_release(tag);
  exchange(mask, {}, at);
  if (block->warp_tags[warp] == tag) block->warp_tags[warp] = fresh_tag();
  tsan_acquire(tag);
}

void* shared(const void* key, size_t bytes, Site at) {
  void* variable = block->shared.find_or_add(key, bytes);
  if (!variable) fail("more than 48 KB of shared memory", at);
  return variable;
}

}  // namespace emu
