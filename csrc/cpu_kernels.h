// Interface between host code and the CPU kernels: plain structs, and a table of functions per
// instruction set. cpu_kernels.cpp is compiled once per level with the flags of that level; host
// code picks a table at run time (cpu_dispatch.h).
//
// Include nothing from torch and no containers of the standard library: of an inline function that
// was compiled at several levels the linker keeps one copy, and it could be the AVX-512 one.
#pragma once

#include <cstdint>

namespace lga_fast {

enum class Dtype : int { kHalf, kBFloat16, kFloat, kDouble };

// A strided matrix in memory. Strides are in elements.
struct Matrix {
  const void* data;
  int64_t rows, cols;
  int64_t row_stride, col_stride;
  Dtype dtype;
};

// One row's tokens at a linear map: inputs a [t d_in], output gradients d [t d_out].
struct TokenRow {
  Matrix a, d;
};

// <G_old, G_new>, |G_old|^2 and |G_new|^2 of a pair, or one unit's share of them.
struct DotSums {
  double dot, norm2_old, norm2_new;
};

// A strided matrix that kernels write: the weight of low_rank_update_.
struct MutableMatrix {
  void* data;
  int64_t rows, cols;
  int64_t row_stride, col_stride;
  Dtype dtype;
};

// Sizes of the units of work. Units depend on shapes alone, so results depend neither on the number
// of threads nor on which other pairs share the call.
constexpr int64_t kGramTile = 64;    // tokens along each side of a Gram tile, at most
constexpr int64_t kGradTileX = 256;  // a tile's extent along the wider side of G
constexpr int64_t kGradTileY = 48;   // and along the other side

struct CpuKernels {
  const char* level;
  // Size of the `scratch` that each thread passes to the functions below, 64-byte aligned.
  int64_t scratch_bytes;
  // grad_dot, Gram form: the share of tile (tile_i, tile_j) of the symmetric Gram matrices over the
  // pair's tokens, old before new; tile_i <= tile_j < gram_tiles(tokens).
  DotSums (*gram_unit)(const TokenRow& old_row, const TokenRow& new_row, int64_t tile_i,
                       int64_t tile_j, void* scratch);
  // The same where both rows have one and the same a: tiles are over the tokens of one of them, so
  // that a's Gram matrix is computed once, not four times; tile_i <= tile_j < gram_tiles(a.rows).
  DotSums (*shared_gram_unit)(const TokenRow& old_row, const TokenRow& new_row, int64_t tile_i,
                              int64_t tile_j, void* scratch);
  // grad_dot, tiled form: the share of the tile of G at (x, y), x along the wider side of G.
  DotSums (*tile_unit)(const TokenRow& old_row, const TokenRow& new_row, int64_t x, int64_t y,
                       void* scratch);
  // grad_abs_sum: the share of the tile of G at (x, y).
  double (*abs_unit)(const TokenRow& row, int64_t x, int64_t y, void* scratch);
  // low_rank_update_: adds scale * left^T . right to the tile of the weight at column x and row y;
  // left [rank rows], right [rank cols].
  void (*update_unit)(const MutableMatrix& weight, const Matrix& left, const Matrix& right,
                      double scale, int64_t x, int64_t y, void* scratch);
};

// static: one copy per level, see the top of the file
static inline int64_t ceil_div(int64_t n, int64_t d) { return (n + d - 1) / d; }
// Tiles per side of a pair's Gram matrix. While a pair fits into the cache tiles are half as large,
// which gives the threads of a small call more units.
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
