// Tensors of torch's stable ABI as the plain structs that kernels take.
//
// The Python wrapper (lga_fast/ops/__init__.py) validates every argument and explains what is
// wrong. The checks here keep memory safe when an op is called through torch.ops directly; their
// messages name the op, the argument and what was expected.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <vector>

#include "cpu_kernels.h"

namespace lga_fast {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

#define LGA_CHECK(condition, op, argument, expected) \
  STD_TORCH_CHECK(condition, op, ": ", argument, ": expected ", expected)

inline Dtype dtype_of(const Tensor& x, const char* op, const char* argument) {
  switch (x.scalar_type()) {
    case ScalarType::Half:
      return Dtype::kHalf;
    case ScalarType::BFloat16:
      return Dtype::kBFloat16;
    case ScalarType::Float:
      return Dtype::kFloat;
    case ScalarType::Double:
      return Dtype::kDouble;
    default:
      LGA_CHECK(false, op, argument, "float16, bfloat16, float32 or float64");
  }
}

inline Matrix matrix_of(const Tensor& x, const char* op, const char* argument) {
  LGA_CHECK(x.dim() == 2, op, argument, "2 axes");
  return {x.const_data_ptr(), x.size(0),   x.size(1),
          x.stride(0),        x.stride(1), dtype_of(x, op, argument)};
}

inline Matrix transposed(const Matrix& x) {
  return {x.data, x.cols, x.rows, x.col_stride, x.row_stride, x.dtype};
}

inline int64_t dtype_bytes(Dtype dtype) {
  return dtype == Dtype::kDouble ? 8 : dtype == Dtype::kFloat ? 4 : 2;
}

// From the first byte of a tensor to the one after its last.
struct Extent {
  const char *begin, *end;
};
inline Extent extent_of(const Tensor& x, const char* op, const char* argument) {
  const auto* begin = static_cast<const char*>(x.const_data_ptr());
  int64_t last = 0;
  for (int64_t axis = 0; axis < x.dim(); ++axis) {
    if (x.size(axis) == 0) return {begin, begin};
    last += (x.size(axis) - 1) * x.stride(axis);
  }
  return {begin, begin + (last + 1) * dtype_bytes(dtype_of(x, op, argument))};
}

// x, or a copy of it where writing to `written` might change it.
inline Tensor apart_from(const Tensor& written, const Tensor& x, const char* op) {
  const Extent w = extent_of(written, op, "weight"), r = extent_of(x, op, "left and right");
  return r.begin < w.end && w.begin < r.end ? torch::stable::clone(x) : x;
}

// A stretch of the token axis: one sequence.
struct RowSpan {
  int64_t start, length;
};

inline Matrix rows_of(const Matrix& x, RowSpan span) {
  Matrix part = x;
  part.data = static_cast<const char*>(x.data) + span.start * x.row_stride * dtype_bytes(x.dtype);
  part.rows = span.length;
  return part;
}

// Tokens of one linear map, a [token d_in] and d [token d_out], and the rows to take of them.
struct TokenRows {
  Matrix a, d;
  std::vector<RowSpan> spans;

  int64_t size() const { return static_cast<int64_t>(spans.size()); }
  TokenRow operator[](int64_t i) const { return {rows_of(a, spans[i]), rows_of(d, spans[i])}; }
};

inline TokenRows token_rows_of(const Tensor& a, const Tensor& d, const Tensor& rows,
                               const char* op) {
  TokenRows out = {matrix_of(a, op, "a"), matrix_of(d, op, "d"), {}};
  const int64_t tokens = out.a.rows;
  LGA_CHECK(out.d.rows == tokens, op, "d", "as many tokens as a");
  LGA_CHECK(out.a.dtype == out.d.dtype, op, "d", "the dtype of a");
  LGA_CHECK(a.get_device_index() == d.get_device_index(), op, "d", "the device of a");
  LGA_CHECK(rows.is_cpu() && rows.dim() == 2 && rows.size(1) == 2, op, "rows",
            "a CPU tensor [n, 2]");
  LGA_CHECK(rows.scalar_type() == ScalarType::Long, op, "rows", "int64");
  const auto* data = static_cast<const int64_t*>(rows.const_data_ptr());
  out.spans.reserve(rows.size(0));
  for (int64_t i = 0; i < rows.size(0); ++i) {
    const RowSpan span = {data[i * rows.stride(0)], data[i * rows.stride(0) + rows.stride(1)]};
    LGA_CHECK(span.start >= 0 && span.length >= 0 && span.start <= tokens &&
                  span.length <= tokens - span.start,
              op, "rows", "rows within the token axis");
    out.spans.push_back(span);
  }
  return out;
}

// The dtype of results that are sums over x.
inline ScalarType sum_dtype(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Rounds sums to the dtype of `out`, a CPU tensor.
inline void store_sums(const std::vector<double>& sums, const Tensor& out) {
  if (out.scalar_type() == ScalarType::Double)
    std::copy(sums.begin(), sums.end(), static_cast<double*>(out.mutable_data_ptr()));
  else
    std::copy(sums.begin(), sums.end(), static_cast<float*>(out.mutable_data_ptr()));
}

}  // namespace lga_fast
