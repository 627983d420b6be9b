// What the host files ask of the CPU kernels: plain structs and one table of functions per
// instruction set. cpu_kernels.cpp is compiled once per level with that level's flags; host code
// picks a table at run time (cpu_dispatch.h). Nothing from torch or the standard library's
// containers may be included here: an inline function compiled with AVX-512 could be the copy that
// the linker keeps for everybody.
#pragma once

#include <cstdint>

namespace lga_fast {

enum class Dtype : int { kHalf, kBFloat16, kFloat, kDouble };

// A matrix in memory, or a row's stretch of one. Strides in elements.
struct Matrix {
  const void* data;
  int64_t rows, cols;
  int64_t row_stride, col_stride;
  Dtype dtype;
};

// One row of tokens seen through a linear map: a [t d_in], d [t d_out].
struct TokenRow {
  Matrix a, d;
};

// Sums of one pair, or of a part of it: <old,new>, |old|^2, |new|^2.
struct DotSums {
  double dot, norm2_old, norm2_new;
};

// Part of a weight that one unit of low_rank_update_ writes. Strides in elements.
struct MutableMatrix {
  void* data;
  int64_t rows, cols;
  int64_t row_stride, col_stride;
  Dtype dtype;
};

// Edges of the pieces of work. They depend on shapes alone, so that sums come out the same for any
// number of threads and any company of other pairs.
constexpr int64_t kGramTile = 64;    // token rows on a side of a Gram tile, at most
constexpr int64_t kGradTileX = 256;  // columns of a tile of G, along its wider side
constexpr int64_t kGradTileY = 48;   // rows of a tile of G

struct CpuKernels {
  const char* level;
  // Bytes that a thread lends to the functions below as `scratch`, 64-byte aligned.
  int64_t scratch_bytes;
  // Gram form: the part of the sums from tile (tile_i, tile_j) of the symmetric Gram matrices of
  // the pair's tokens, old before new; tile_i <= tile_j < gram_tiles(tokens).
  DotSums (*gram_unit)(const TokenRow& old_row, const TokenRow& new_row, int64_t tile_i,
                       int64_t tile_j, void* scratch);
  // Tiled form: the part from one tile of G, at column x of the wider side and row y of the other.
  DotSums (*tile_unit)(const TokenRow& old_row, const TokenRow& new_row, int64_t x, int64_t y,
                       void* scratch);
  double (*abs_unit)(const TokenRow& row, int64_t x, int64_t y, void* scratch);
  // weight[y:, x:] += scale * left.right^T on one tile of G's size.
  void (*update_unit)(const MutableMatrix& weight, const Matrix& left, const Matrix& right,
                      double scale, int64_t x, int64_t y, void* scratch);
};

// static: each level keeps its own copy, see above
static inline int64_t ceil_div(int64_t n, int64_t d) { return (n + d - 1) / d; }
// Half the size while a pair fits in the cache: more units for the threads of a small call.
static inline int64_t gram_tiles(int64_t tokens) {
  return ceil_div(tokens, tokens <= 2 * kGramTile ? kGramTile / 2 : kGramTile);
}

namespace baseline {
const CpuKernels& kernels();
}
#if defined(__x86_64__)
namespace avx2 {
const CpuKernels& kernels();
}
namespace avx512 {
const CpuKernels& kernels();
}
#endif

}  // namespace lga_fast
