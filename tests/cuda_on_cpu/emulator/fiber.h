// Fibers on one thread, and what the sanitizers must be told of them.
//
// For ThreadSanitizer (EMU_TSAN) a fiber is a thread, and switching synchronizes nothing. The code
// that includes this is itself compiled without that sanitizer.
#pragma once

#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

#include <cstdint>
#include <new>
#ifdef EMU_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emu {

#ifdef EMU_TSAN
constexpr bool kTsan = true;
inline void tsan_release(const void* tag) { __tsan_release(const_cast<void*>(tag)); }
inline void tsan_acquire(const void* tag) { __tsan_acquire(const_cast<void*>(tag)); }
#else
constexpr bool kTsan = false;
inline void tsan_release(const void*) {}
inline void tsan_acquire(const void*) {}
#endif

// Each synchronization has a tag of its own. With one for all, a thread that leaves a barrier late
// would be ordered after what faster ones have done since.
inline const void* fresh_tag() {
  static char tags[1 << 16];
  static unsigned next = 0;
  return &tags[next++ % sizeof tags];
}

inline void asan_forbid([[maybe_unused]] const void* from, [[maybe_unused]] size_t bytes,
                        [[maybe_unused]] bool forbidden) {
#ifdef __SANITIZE_ADDRESS__
  forbidden ? __asan_poison_memory_region(from, bytes) : __asan_unpoison_memory_region(from, bytes);
#endif
}

#ifdef __x86_64__
// swapcontext() would ask the kernel for the signal mask at every switch: a third of all the time.
using Registers = void*;  // the stack pointer; the others are on the stack
extern "C" void emu_swap(Registers* from, Registers* to);
asm(R"(
.pushsection .text
emu_swap:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov (%rsi), %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.popsection
)");
inline void swap_registers(Registers& from, Registers& to) { emu_swap(&from, &to); }
inline void prepare(Registers& registers, void* stack, size_t bytes, void (*start)()) {
  void** top = reinterpret_cast<void**>(static_cast<char*>(stack) + bytes) - 2;  // stays aligned
  *top = reinterpret_cast<void*>(start);
  registers = top - 6;  // as many as emu_swap pops
}
#else
using Registers = ucontext_t;
inline void swap_registers(Registers& from, Registers& to) { swapcontext(&from, &to); }
inline void prepare(Registers& registers, void* stack, size_t bytes, void (*start)()) {
  getcontext(&registers);
  registers.uc_stack.ss_sp = stack;
  registers.uc_stack.ss_size = bytes;
  makecontext(&registers, start, 0);
}
#endif

struct Context {
  Registers registers;
  const void* stack = nullptr;
  size_t stack_bytes = 0;
  void *asan = nullptr, *tsan = nullptr;
};

// The context that is not a fiber: it starts them, and they return to it.
inline Context& host() {
  static Context context;
  return context;
}
// Another thread may be the host from now on.
inline void host_arrives() {
#ifdef EMU_TSAN
  host().tsan = __tsan_get_current_fiber();
#endif
}

// On arrival in a fiber this learns the stack of the host, which AddressSanitizer asks for.
inline void arrive([[maybe_unused]] Context& in, [[maybe_unused]] void* asan) {
#ifdef __SANITIZE_ADDRESS__
  const void* stack;
  size_t bytes;
  __sanitizer_finish_switch_fiber(asan, &stack, &bytes);
  if (&in != &host()) host().stack = stack, host().stack_bytes = bytes;
#endif
}

inline void switch_to(Context& from, Context& to) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&from.asan, to.stack, to.stack_bytes);
#endif
#ifdef EMU_TSAN
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
  swap_registers(from.registers, to.registers);
  arrive(from, from.asan);
}

// Runs `body`, which must not return, from the first switch to it on. It begins with arrive().
struct Fiber : Context {
  explicit Fiber(void (*body)()) {
    stack_bytes = 256 << 10;
    void* memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    stack = memory;
    prepare(registers, memory, stack_bytes, body);
#ifdef EMU_TSAN
    tsan = __tsan_create_fiber(0);
#endif
  }
  ~Fiber() {
#ifdef EMU_TSAN
    __tsan_destroy_fiber(tsan);
#endif
    asan_forbid(stack, stack_bytes, false);
    munmap(const_cast<void*>(stack), stack_bytes);
  }
  Fiber(const Fiber&) = delete;
};

}  // namespace emu
