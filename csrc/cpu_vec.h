// Vectors of one instruction set, and every dtype conversion on the CPU. Compiled once per level,
// in the namespace LGA_LEVEL. Arithmetic uses the vector extensions of GCC and Clang; intrinsics
// serve the float16 conversions these lack, and AVX-512's sum of lanes.
#pragma once

#include "cpu_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lga_fast::LGA_LEVEL {

#if defined(__AVX512F__)
constexpr int kVecBytes = 64;
#elif defined(__AVX2__)
constexpr int kVecBytes = 32;
#else
constexpr int kVecBytes = 16;
#endif

// Loops over a block of registers must be unrolled before the compiler allocates registers, or the
// block ends up in memory.
#define LGA_UNROLL _Pragma("GCC unroll 16")

template <class S>
struct VecOf {
  static constexpr int lanes = kVecBytes / sizeof(S);
  typedef S type __attribute__((vector_size(kVecBytes)));
};
template <class S>
using Vec = typename VecOf<S>::type;
template <class S>
constexpr int kLanes = VecOf<S>::lanes;

struct half_t {
  uint16_t bits;
};
struct bfloat16_t {
  uint16_t bits;
};

template <class To, class From>
inline To bit_copy(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// ---- scalars: widen to the type of the sums, round once when narrowing

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(bfloat16_t x) { return bit_copy<float>(uint32_t{x.bits} << 16); }
inline float widen(half_t x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000u) << 16, magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u)  // infinity, or NaN with its payload
    return bit_copy<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  // 2^112 turns half's exponent bias into float's, exactly, subnormals included
  return bit_copy<float>(sign | bit_copy<uint32_t>(bit_copy<float>(magnitude << 13) * 0x1p112f));
}

inline void narrow(float x, float* to) { *to = x; }
inline void narrow(double x, double* to) { *to = x; }
inline void narrow(float x, bfloat16_t* to) {
  const uint32_t bits = bit_copy<uint32_t>(x);
  const bool nan = x != x;
  to->bits = nan ? uint16_t(0x7fc0) : uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline void narrow(float x, half_t* to) {
  const uint32_t bits = bit_copy<uint32_t>(x), sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t out;
  if (magnitude > 0x7f800000u) {
    out = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // would round to 65536 or more
    out = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 shifts the bits into place
    out = bit_copy<uint32_t>(bit_copy<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    out = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  to->bits = uint16_t(sign | out);
}

// ---- vectors: loads and stores need no alignment

template <class V, class T>
inline V load_as(const T* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
inline Vec<float> load(const float* from) { return load_as<Vec<float>>(from); }
inline Vec<double> load(const double* from) { return load_as<Vec<double>>(from); }
inline Vec<float> load(const bfloat16_t* from) {
  typedef uint16_t narrow __attribute__((vector_size(kVecBytes / 2)));
  typedef uint32_t wide __attribute__((vector_size(kVecBytes)));
  return (Vec<float>)(__builtin_convertvector(load_as<narrow>(from), wide) << 16);
}
inline Vec<float> load(const half_t* from) {
#if defined(__AVX512F__)
  return (Vec<float>)_mm512_cvtph_ps(load_as<__m256i>(from));
#elif defined(__F16C__)
  return (Vec<float>)_mm256_cvtph_ps(load_as<__m128i>(from));
#else
  Vec<float> v;
  for (int lane = 0; lane < kLanes<float>; ++lane) v[lane] = widen(from[lane]);
  return v;
#endif
}

template <class S>
inline void store(S* to, const Vec<S>& v) {
  __builtin_memcpy(to, &v, sizeof v);
}
// Pairwise: one half of the lanes is added to the other, repeatedly.
template <class S>
inline S sum_lanes(const Vec<S>& v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(S) == 4)
    return _mm512_reduce_add_ps((__m512)v);
  else
    return _mm512_reduce_add_pd((__m512d)v);
#else
  S lanes[kLanes<S>];
  store<S>(lanes, v);
  LGA_UNROLL for (int width = kLanes<S> / 2; width > 0; width /= 2) {
    LGA_UNROLL for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
#endif
}

// ---- packing

// Copies the `rows` x `cols` block at (row, col) to dst as S, zero-padded to the leading dimension
// `ld`. Whatever the dtype and strides of the input, kernels see aligned, contiguous, whole
// vectors.
template <class S, class In>
inline void pack_rows(const Matrix& from, int64_t row, int64_t rows, int64_t col, int64_t cols,
                      S* dst, int64_t ld) {
  const In* src = static_cast<const In*>(from.data) + row * from.row_stride + col * from.col_stride;
  for (int64_t r = 0; r < rows; ++r, src += from.row_stride, dst += ld) {
    int64_t c = 0;
    if constexpr (sizeof(S) == 4 && sizeof(In) <= 4) {
      if (from.col_stride == 1)
        for (; c + kLanes<S> <= cols; c += kLanes<S>) store<S>(dst + c, load(src + c));
    }
    for (; c < cols; ++c) dst[c] = static_cast<S>(widen(src[c * from.col_stride]));
    for (; c < ld; ++c) dst[c] = S{0};
  }
}
template <class S>
inline void pack(const Matrix& from, int64_t row, int64_t rows, int64_t col, int64_t cols, S* dst,
                 int64_t ld) {
  switch (from.dtype) {
    case Dtype::kHalf:
      return pack_rows<S, half_t>(from, row, rows, col, cols, dst, ld);
    case Dtype::kBFloat16:
      return pack_rows<S, bfloat16_t>(from, row, rows, col, cols, dst, ld);
    case Dtype::kFloat:
      return pack_rows<S, float>(from, row, rows, col, cols, dst, ld);
    case Dtype::kDouble:
      return pack_rows<S, double>(from, row, rows, col, cols, dst, ld);
  }
}

}  // namespace lga_fast::LGA_LEVEL
