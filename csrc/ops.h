// The ops of torch.ops.lga_fast: what each computes, and its arguments, checked and unpacked for
// the host code of either device. The *_cpu.cpp and *_cuda.cu files implement and register them.
//
// A linear map has inputs a [token d_in] and output gradients d [token d_out]. A row (start,
// length) is one sequence: a stretch of the token axis. Its weight gradient, summed over the tokens
// of the row, is G = d^T a [d_out d_in].
#pragma once

#include <utility>

#include "host_tensors.h"

namespace lga_fast {

// grad_dot(a_old, d_old, rows_old, a_new, d_new, rows_new, bias) -> [pair 3]; with bias [pair 2 3]
//
//   <G_old, G_new>, |G_old|^2, |G_new|^2 per pair, without materializing G; with `bias` also those
//   of the bias of the linear map, which is the weight of an input that is 1 at every token
//
//   Gram form   <d1^T a1, d2^T a2> = sum_ts (a1 a2^T)_ts (d1 d2^T)_ts
//   tiled form  tiles of G_old and G_new are formed, multiplied and discarded
//
// Each pair takes the form that needs fewer multiply-adds on the device.
struct GradDotArgs {
  TokenRows old_rows, new_rows;
};
inline GradDotArgs grad_dot_args(const Tensor& a_old, const Tensor& d_old, const Tensor& rows_old,
                                 const Tensor& a_new, const Tensor& d_new, const Tensor& rows_new) {
  const char* op = "grad_dot";
  const GradDotArgs args = {token_rows_of(a_old, d_old, rows_old, op),
                            token_rows_of(a_new, d_new, rows_new, op)};
  const TokenRows &old_rows = args.old_rows, &new_rows = args.new_rows;
  LGA_CHECK(old_rows.size() == new_rows.size(), op, "rows_new", "as many rows as rows_old");
  LGA_CHECK(old_rows.a.cols == new_rows.a.cols, op, "a_new", "the columns of a_old");
  LGA_CHECK(old_rows.d.cols == new_rows.d.cols, op, "d_new", "the columns of d_old");
  LGA_CHECK(old_rows.a.dtype == new_rows.a.dtype, op, "a_new", "the dtype of a_old");
  LGA_CHECK(a_old.get_device_index() == a_new.get_device_index(), op, "a_new",
            "the device of a_old");
  return args;
}

// The same of the bias; `one` is a value 1 of the dtype, on the device.
inline GradDotArgs bias_of(GradDotArgs args, const void* one) {
  for (TokenRows* rows : {&args.old_rows, &args.new_rows})
    rows->a = {one, rows->a.rows, 1, 0, 0, rows->a.dtype};
  return args;
}

// grad_abs_sum(a, d, rows) -> [row]
//
//   sum_oi |G_oi| per row, a tile of G at a time
//
// A sum of absolute values does not factor, so every entry of G is formed once.

// low_rank_update_(weight, left, right, scale), in place
//
//   weight [d_out d_in] += scale * left [d_out rank] . right [d_in rank]^T
//
// The product and the addition run in float (in double for a double weight) and are rounded once,
// when stored. `weight` may have any strides. Factors that lie in the memory of the weight are
// copied first: the update is of their values before it.
//
// Kernels take a weight whose columns have the smaller stride, and the factors transposed: left
// [rank rows], right [rank cols]. For a weight stored column by column (the Conv1D of GPT-2 viewed
// as [d_out d_in]) they get the same update transposed: weight^T += scale * right . left^T.
struct LowRankUpdateArgs {
  MutableMatrix weight;
  Matrix left, right;
  Tensor left_memory, right_memory;  // what these two point into
};
inline LowRankUpdateArgs low_rank_update_args(const Tensor& weight, const Tensor& left,
                                              const Tensor& right) {
  const char* op = "low_rank_update_";
  LGA_CHECK(weight.dim() == 2, op, "weight", "2 axes");
  const Tensor left_memory = apart_from(weight, left, op),
               right_memory = apart_from(weight, right, op);
  Matrix l = matrix_of(left_memory, op, "left"), r = matrix_of(right_memory, op, "right");
  LGA_CHECK(l.rows == weight.size(0), op, "left", "[d_out rank]");
  LGA_CHECK(r.rows == weight.size(1), op, "right", "[d_in rank]");
  LGA_CHECK(l.cols == r.cols, op, "right", "the rank of left");
  LGA_CHECK(l.dtype == r.dtype && (l.dtype == Dtype::kFloat || l.dtype == Dtype::kDouble), op,
            "left and right", "one dtype, float32 or float64");
  LGA_CHECK(left.get_device_index() == weight.get_device_index() &&
                right.get_device_index() == weight.get_device_index(),
            op, "left and right", "the device of weight");
  MutableMatrix w = {weight.mutable_data_ptr(), weight.size(0),   weight.size(1),
                     weight.stride(0),          weight.stride(1), dtype_of(weight, op, "weight")};
  if (w.col_stride > w.row_stride) {
    std::swap(w.rows, w.cols);
    std::swap(w.row_stride, w.col_stride);
    std::swap(l, r);
  }
  // Of two elements in one memory cell, one or both updates would take effect, by chance.
  const bool apart = (w.cols <= 1 || w.col_stride > 0) &&
                     (w.rows <= 1 || w.row_stride > w.col_stride * (w.cols - 1));
  LGA_CHECK(apart || w.rows == 0 || w.cols == 0, op, "weight", "elements that do not share memory");
  return {w, transposed(l), transposed(r), left_memory, right_memory};
}

}  // namespace lga_fast
