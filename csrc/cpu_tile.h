// Tiles of G = d^T a on the CPU, each formed, used and discarded. Shared by the tiled form of
// grad_dot, by grad_abs_sum and, with the rank as the token axis, by low_rank_update_.
//
// x is the wider side of G and runs along the vectors; y, the other side, is broadcast. The
// gradient of a bias (d_in = 1) is then one long row of G, not a column of single lanes. Forming G
// or its transpose makes no difference to any of the sums.
//
// Measured (one thread, AVX-512, on a shared machine): 12 rows of two vectors in registers instead
// of 6 need fewer loads per product and are faster at 200 tokens and at rank 500. Keeping tokens a
// cache line off multiples of 1 KiB was expected to matter and is within noise. grad_abs_sum is 1.4
// to 2.5 times as fast as the reference at 17 tokens and 0.5 to 0.9 times at 200, where the
// reference is MKL's matrix product; an update of rank 500 is 0.6 to 1.1 times as fast.
#pragma once

#include "cpu_vec.h"

namespace lga_fast::LGA_LEVEL {

#if defined(__AVX512F__)
constexpr int kTileM = 12;
#else
constexpr int kTileM = 6;
#endif
constexpr int64_t kTileTokens = 32;  // packed at a time, and the longest chain of additions

// An odd number of cache lines: at a multiple of 1 KiB all tokens would map to the same few sets of
// the L1 cache.
template <class S>
constexpr int64_t kTokenStride = kGradTileX + 64 / int64_t(sizeof(S));

template <class S>
struct TileScratch {
  alignas(64) S x[kTileTokens * kTokenStride<S>];
  alignas(64) S y[kTileTokens * kGradTileY];
  alignas(64) S g[2][kGradTileY * kGradTileX];
};

// g [M x N vectors] += y^T x over `tokens`, or = if `first`. The sum over these tokens is formed on
// its own: a sum of short sums is more accurate than one long chain.
template <class S, int M, int N>
void outer_block(const S* x, const S* y, int64_t tokens, bool first, S* g) {
  Vec<S> acc[M][N];
  LGA_UNROLL for (int i = 0; i < M; ++i) {
    LGA_UNROLL for (int j = 0; j < N; ++j) acc[i][j] = Vec<S>{};
  }
  for (int64_t t = 0; t < tokens; ++t, x += kTokenStride<S>, y += kGradTileY) {
    Vec<S> right[N];
    LGA_UNROLL for (int j = 0; j < N; ++j) right[j] = load(x + j * kLanes<S>);
    LGA_UNROLL for (int i = 0; i < M; ++i) {
      LGA_UNROLL for (int j = 0; j < N; ++j) acc[i][j] += y[i] * right[j];
    }
  }
  LGA_UNROLL for (int i = 0; i < M; ++i) {
    LGA_UNROLL for (int j = 0; j < N; ++j) {
      S* to = g + i * kGradTileX + j * kLanes<S>;
      store<S>(to, first ? acc[i][j] : load(to) + acc[i][j]);
    }
  }
}

// M rows over the full width of the tile. A single row takes more columns at a time, to have enough
// accumulators in flight to hide the latency of an FMA.
template <class S, int M>
void outer_rows(const S* x, const S* y, int64_t tokens, int64_t cols, bool first, S* g) {
  constexpr int kWide = M == 1 ? 8 : 2;
  int64_t c = 0;
  for (; c + kWide * kLanes<S> <= cols; c += kWide * kLanes<S>)
    outer_block<S, M, kWide>(x + c, y, tokens, first, g + c);
  for (; c < cols; c += kLanes<S>) outer_block<S, M, 1>(x + c, y, tokens, first, g + c);
}

// g [ny x nx] = the tile of y^T x at (row0, col0), zero-padded to whole vectors.
template <class S>
void form_tile(const Matrix& x, const Matrix& y, int64_t col0, int64_t nx, int64_t row0, int64_t ny,
               TileScratch<S>& s, S* g) {
  const int64_t cols = ceil_div(nx, kLanes<S>) * kLanes<S>;
  if (x.rows == 0)
    for (int64_t r = 0; r < ny; ++r)
      for (int64_t c = 0; c < cols; ++c) g[r * kGradTileX + c] = S{0};
  for (int64_t t = 0; t < x.rows; t += kTileTokens) {
    const int64_t tokens = x.rows - t < kTileTokens ? x.rows - t : kTileTokens;
    for (int64_t k = 0; k < tokens; ++k) {
      pack(x, t + k, 1, col0, nx, s.x + k * kTokenStride<S>, cols);
      pack(y, t + k, 1, row0, ny, s.y + k * kGradTileY, ny);
    }
    int64_t r = 0;
    for (; r + kTileM <= ny; r += kTileM)
      outer_rows<S, kTileM>(s.x, s.y + r, tokens, cols, t == 0, g + r * kGradTileX);
    for (; r < ny; ++r) outer_rows<S, 1>(s.x, s.y + r, tokens, cols, t == 0, g + r * kGradTileX);
  }
}

struct TileSize {
  int64_t nx, ny;
};
inline TileSize tile_size(int64_t x_size, int64_t y_size, int64_t x, int64_t y) {
  return {x_size - x < kGradTileX ? x_size - x : kGradTileX,
          y_size - y < kGradTileY ? y_size - y : kGradTileY};
}
inline bool a_is_wider(const TokenRow& row) { return row.a.cols >= row.d.cols; }

template <class S>
TileSize form_grad_tile(const TokenRow& row, int64_t x, int64_t y, TileScratch<S>& s, S* g) {
  const Matrix& wide = a_is_wider(row) ? row.a : row.d;
  const Matrix& other = a_is_wider(row) ? row.d : row.a;
  const TileSize size = tile_size(wide.cols, other.cols, x, y);
  form_tile(wide, other, x, size.nx, y, size.ny, s, g);
  return size;
}

// Sums run in S along a row of the tile (at most kGradTileX / lanes terms per lane) and in double
// across rows.
template <class S>
DotSums tile_unit(const TokenRow& old_row, const TokenRow& new_row, int64_t x, int64_t y,
                  void* scratch) {
  TileScratch<S>& s = *static_cast<TileScratch<S>*>(scratch);
  form_grad_tile(old_row, x, y, s, s.g[0]);
  const TileSize size = form_grad_tile(new_row, x, y, s, s.g[1]);
  DotSums out = {0, 0, 0};
  for (int64_t r = 0; r < size.ny; ++r) {
    Vec<S> dot = {}, norm2_old = {}, norm2_new = {};
    for (int64_t c = 0; c < size.nx; c += kLanes<S>) {
      const Vec<S> g_old = load(s.g[0] + r * kGradTileX + c);
      const Vec<S> g_new = load(s.g[1] + r * kGradTileX + c);
      dot += g_old * g_new;
      norm2_old += g_old * g_old;
      norm2_new += g_new * g_new;
    }
    out.dot += sum_lanes<S>(dot);
    out.norm2_old += sum_lanes<S>(norm2_old);
    out.norm2_new += sum_lanes<S>(norm2_new);
  }
  return out;
}

template <class S>
double abs_unit(const TokenRow& row, int64_t x, int64_t y, void* scratch) {
  TileScratch<S>& s = *static_cast<TileScratch<S>*>(scratch);
  const TileSize size = form_grad_tile(row, x, y, s, s.g[0]);
  double out = 0;
  for (int64_t r = 0; r < size.ny; ++r) {
    Vec<S> sum = {};
    for (int64_t c = 0; c < size.nx; c += kLanes<S>) {
      const Vec<S> g = load(s.g[0] + r * kGradTileX + c);
      sum += g < 0 ? -g : g;  // propagates NaN
    }
    out += sum_lanes<S>(sum);
  }
  return out;
}

}  // namespace lga_fast::LGA_LEVEL
