// The CPU kernels of one instruction set. CMakeLists.txt compiles this file once per level, with
// -DLGA_LEVEL=<name> and the flags of that level.

#include "cpu_kernels.h"

#include "cpu_gram.h"
#include "cpu_tile.h"

namespace lga_fast::LGA_LEVEL {

namespace {

template <class S, class T>
void add_tile(const MutableMatrix& weight, int64_t x, int64_t y, TileSize size, S scale,
              const S* delta) {
  T* row = static_cast<T*>(weight.data) + y * weight.row_stride + x * weight.col_stride;
  for (int64_t r = 0; r < size.ny; ++r, row += weight.row_stride, delta += kGradTileX) {
    if (weight.col_stride == 1)  // separate, so that it vectorizes
      for (int64_t c = 0; c < size.nx; ++c) narrow(widen(row[c]) + scale * delta[c], &row[c]);
    else
      for (int64_t c = 0; c < size.nx; ++c) {
        T& w = row[c * weight.col_stride];
        narrow(widen(w) + scale * delta[c], &w);
      }
  }
}

// The tile's token axis is the rank here: x = right^T [rank cols], y = left^T [rank rows].
template <class S>
void update(const MutableMatrix& weight, const Matrix& left, const Matrix& right, double scale,
            int64_t x, int64_t y, void* scratch) {
  TileScratch<S>& s = *static_cast<TileScratch<S>*>(scratch);
  const TileSize size = tile_size(weight.cols, weight.rows, x, y);
  form_tile(right, left, x, size.nx, y, size.ny, s, s.g[0]);
  const S factor = static_cast<S>(scale);
  if constexpr (sizeof(S) == 8) {
    add_tile<S, double>(weight, x, y, size, factor, s.g[0]);
  } else {
    if (weight.dtype == Dtype::kHalf) add_tile<S, half_t>(weight, x, y, size, factor, s.g[0]);
    if (weight.dtype == Dtype::kBFloat16)
      add_tile<S, bfloat16_t>(weight, x, y, size, factor, s.g[0]);
    if (weight.dtype == Dtype::kFloat) add_tile<S, float>(weight, x, y, size, factor, s.g[0]);
  }
}

DotSums gram_unit_any(const TokenRow& old_row, const TokenRow& new_row, int64_t i, int64_t j,
                      void* scratch) {
  return old_row.a.dtype == Dtype::kDouble ? gram_unit<double>(old_row, new_row, i, j, scratch)
                                           : gram_unit<float>(old_row, new_row, i, j, scratch);
}

DotSums shared_gram_unit_any(const TokenRow& old_row, const TokenRow& new_row, int64_t i, int64_t j,
                             void* scratch) {
  return old_row.a.dtype == Dtype::kDouble
             ? shared_gram_unit<double>(old_row, new_row, i, j, scratch)
             : shared_gram_unit<float>(old_row, new_row, i, j, scratch);
}

DotSums tile_unit_any(const TokenRow& old_row, const TokenRow& new_row, int64_t x, int64_t y,
                      void* scratch) {
  return old_row.a.dtype == Dtype::kDouble ? tile_unit<double>(old_row, new_row, x, y, scratch)
                                           : tile_unit<float>(old_row, new_row, x, y, scratch);
}

double abs_unit_any(const TokenRow& row, int64_t x, int64_t y, void* scratch) {
  return row.a.dtype == Dtype::kDouble ? abs_unit<double>(row, x, y, scratch)
                                       : abs_unit<float>(row, x, y, scratch);
}

void update_unit_any(const MutableMatrix& weight, const Matrix& left, const Matrix& right,
                     double scale, int64_t x, int64_t y, void* scratch) {
  if (weight.dtype == Dtype::kDouble)
    update<double>(weight, left, right, scale, x, y, scratch);
  else
    update<float>(weight, left, right, scale, x, y, scratch);
}

constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

#define LGA_STRING_OF(name) #name
#define LGA_STRING(name) LGA_STRING_OF(name)
constexpr CpuKernels kTable = {
    LGA_STRING(LGA_LEVEL), larger(sizeof(GramScratch<double>), sizeof(TileScratch<double>)),
    gram_unit_any,         shared_gram_unit_any,
    tile_unit_any,         abs_unit_any,
    update_unit_any,
};

}  // namespace

const CpuKernels& kernels() { return kTable; }

}  // namespace lga_fast::LGA_LEVEL
