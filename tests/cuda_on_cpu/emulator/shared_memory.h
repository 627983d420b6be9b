// The shared memory of a block: NaN until it is written, with gaps between the variables.
#pragma once

#include <vector>

#include "emulator.h"
#include "fiber.h"

namespace emu {

class SharedMemory {
 public:
  void clear() {
    variables_.clear();
    used_ = 0;
    poison(0, kGap);
    end_ = kGap;
  }

  // nullptr if there is no room left.
  void* find_or_add(const void* key, size_t bytes) {
    for (const Variable& v : variables_)
      if (v.key == key) return memory_ + v.begin;
    used_ += bytes;
    if (used_ > kSharedBytes || variables_.size() == kMostVariables) return nullptr;
    const Variable v = {key, end_, end_ + bytes};
    end_ = (v.end + kGap + kAlign - 1) / kAlign * kAlign;
    poison(v.begin, end_);
    asan_forbid(memory_ + v.end, end_ - v.end, true);
    variables_.push_back(v);
    return memory_ + v.begin;
  }

  bool gaps_are_intact() const {
    size_t begin = 0;
    for (const Variable& v : variables_) {
      if (!is_poison(begin, v.begin)) return false;
      begin = v.end;
    }
    return is_poison(begin, end_);
  }

 private:
  struct Variable {
    const void* key;
    size_t begin, end;
  };
  static constexpr size_t kGap = 64, kAlign = 64, kMostVariables = 64;
  static constexpr unsigned char kPoison = 0xff;  // repeated, it is a NaN of every dtype

  void poison(size_t begin, size_t end) {
    asan_forbid(memory_ + begin, end - begin, false);
    volatile unsigned char* to = memory_;  // ThreadSanitizer would see a memset
    for (size_t i = begin; i < end; ++i) to[i] = kPoison;
  }
  bool is_poison(size_t begin, size_t end) const {
    asan_forbid(memory_ + begin, end - begin, false);
    for (size_t i = begin; i < end; ++i)
      if (memory_[i] != kPoison) return false;
    return true;
  }

  std::vector<Variable> variables_;
  size_t used_, end_;
  alignas(kAlign) unsigned char memory_[kSharedBytes + kMostVariables * (kGap + kAlign)];
};

}  // namespace emu
