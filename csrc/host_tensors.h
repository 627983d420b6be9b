// The stable ABI's tensors as the plain structs that kernels take, and the checks that keep memory
// safe when an op is called through torch.ops without its Python wrapper. The wrapper
// (lga_fast/ops/__init__.py) checks everything and explains; here one line names the op and
// argument.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

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

inline int64_t dtype_bytes(Dtype dtype) {
  return dtype == Dtype::kDouble ? 8 : dtype == Dtype::kFloat ? 4 : 2;
}

// Rows [start, start + length) of a matrix.
inline Matrix rows_of(const Matrix& x, int64_t start, int64_t length) {
  Matrix part = x;
  part.data = static_cast<const char*>(x.data) + start * x.row_stride * dtype_bytes(x.dtype);
  part.rows = length;
  return part;
}

// Activations and output gradients of one linear map, cut at rows_old, rows_new or rows.
inline std::vector<TokenRow> token_rows_of(const Tensor& a, const Tensor& d, const Tensor& rows,
                                           const char* op) {
  const TokenRow all = {matrix_of(a, op, "a"), matrix_of(d, op, "d")};
  LGA_CHECK(all.a.rows == all.d.rows, op, "d", "as many tokens as a");
  LGA_CHECK(all.a.dtype == all.d.dtype, op, "d", "the dtype of a");
  LGA_CHECK(a.get_device_index() == d.get_device_index(), op, "d", "the device of a");
  LGA_CHECK(rows.is_cpu() && rows.dim() == 2 && rows.size(1) == 2, op, "rows",
            "a CPU tensor [n, 2]");
  LGA_CHECK(rows.scalar_type() == ScalarType::Long, op, "rows", "int64");
  const auto* data = static_cast<const int64_t*>(rows.const_data_ptr());
  std::vector<TokenRow> out;
  out.reserve(rows.size(0));
  for (int64_t i = 0; i < rows.size(0); ++i) {
    const int64_t start = data[i * rows.stride(0)];
    const int64_t length = data[i * rows.stride(0) + rows.stride(1)];
    LGA_CHECK(start >= 0 && length >= 0 && start <= all.a.rows && length <= all.a.rows - start, op,
              "rows", "rows within the token axis");
    out.push_back({rows_of(all.a, start, length), rows_of(all.d, start, length)});
  }
  return out;
}

inline ScalarType sum_dtype(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

}  // namespace lga_fast
