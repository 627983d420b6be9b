// The ops of torch.ops.lga_fast: what each computes, and the checks of its arguments that CPU and
// CUDA share. Each op has a file per device that implements and registers it.
//
// A linear map sees tokens with inputs a [token d_in] and output gradients d [token d_out]. A row
// (start, length) is a stretch of the token axis: one sequence. Its weight gradient is
// G = d^T a [d_out d_in], summed over the row's tokens.
#pragma once

#include <vector>

#include "host_tensors.h"

namespace lga_fast {

// grad_dot(a_old, d_old, rows_old, a_new, d_new, rows_new) -> [pair 3]
//
//   <G_old, G_new>, |G_old|^2, |G_new|^2 per pair, without ever holding G as a whole
//
//   Gram form   <d1^T a1, d2^T a2> = sum_ts (a1 a2^T)_ts (d1 d2^T)_ts
//   tiled form  tiles of G_old and G_new are formed, multiplied and dropped
//
// Each pair takes the form that needs fewer multiply-adds on its device.
inline void check_pairs(const std::vector<TokenRow>& old_rows,
                        const std::vector<TokenRow>& new_rows, const Tensor& a_old,
                        const Tensor& a_new, const Tensor& d_old, const Tensor& d_new) {
  LGA_CHECK(old_rows.size() == new_rows.size(), "grad_dot", "rows_new", "as many rows as rows_old");
  LGA_CHECK(a_old.size(1) == a_new.size(1), "grad_dot", "a_new", "the columns of a_old");
  LGA_CHECK(d_old.size(1) == d_new.size(1), "grad_dot", "d_new", "the columns of d_old");
  LGA_CHECK(a_old.scalar_type() == a_new.scalar_type(), "grad_dot", "a_new", "the dtype of a_old");
  LGA_CHECK(a_old.get_device_index() == a_new.get_device_index(), "grad_dot", "a_new",
            "the device of a_old");
}

// grad_abs_sum(a, d, rows) -> [row]
//
//   sum_oi |G_oi| per row, a tile of G at a time
//
// A sum of absolute values has no factored form, so every entry of G is formed once.

// low_rank_update_(weight, left, right, scale), in place
//
//   weight [d_out d_in] += scale * left [d_out rank] . right [d_in rank]^T
//
// `weight` may have any strides. The product and the addition run in float (in double for a double
// weight) and are rounded once, when stored.
//
// The factors transposed, as the kernels read them: [rank d_out] and [rank d_in].
struct Factors {
  Matrix left, right;
};
inline Factors factors_of(const Tensor& weight, const Tensor& left, const Tensor& right) {
  const char* op = "low_rank_update_";
  LGA_CHECK(weight.dim() == 2, op, "weight", "2 axes");
  Factors f = {matrix_of(left, op, "left"), matrix_of(right, op, "right")};
  LGA_CHECK(f.left.rows == weight.size(0), op, "left", "[d_out rank]");
  LGA_CHECK(f.right.rows == weight.size(1), op, "right", "[d_in rank]");
  LGA_CHECK(f.left.cols == f.right.cols, op, "right", "the rank of left");
  LGA_CHECK(f.left.dtype == f.right.dtype &&
                (f.left.dtype == Dtype::kFloat || f.left.dtype == Dtype::kDouble),
            op, "left and right", "one dtype, float32 or float64");
  LGA_CHECK(left.get_device_index() == weight.get_device_index() &&
                right.get_device_index() == weight.get_device_index(),
            op, "left and right", "the device of weight");
  for (Matrix* m : {&f.left, &f.right})
    *m = {m->data, m->cols, m->rows, m->col_stride, m->row_stride, m->dtype};
  return f;
}

}  // namespace lga_fast
