// Tiles of G = d^T a on the CPU: formed, used, dropped. Serves the tiled form of grad_dot,
// grad_abs_sum, and (with the rank in place of the tokens) low_rank_update_.
//
// x is the wider of the two sides and runs along the vectors, y the other and is broadcast: a bias
// gradient (d_in = 1) then is one long row of G instead of a column of single lanes. Which of G and
// its transpose is formed does not matter to any of the sums.
//
// Predicted and found (one thread, AVX-512, a machine shared with others): 12 rows of two vectors
// in registers instead of 6 need fewer loads per product, better at 200 tokens and at rank 500.
// Tokens a cache line off a multiple of 1 KiB: expected to matter much, within noise. grad_abs_sum
// is ahead of the reference at 17 tokens (1.4 to 2.5 times) and behind MKL's product at 200 (0.5 to
// 0.9 times), as is an update of rank 500 (0.6 to 1.1 times).
#pragma once

#include "cpu_vec.h"

namespace lga_fast::LGA_LEVEL {

#if defined(__AVX512F__)
constexpr int kTileM = 12;
#else
constexpr int kTileM = 6;
#endif
constexpr int64_t kTileTokens = 128;  // tokens packed at a time

// Tokens lie an odd number of cache lines apart: a multiple of 1 KiB would put all of them into the
// same few sets of the first cache.
template <class S>
constexpr int64_t kTokenStride = kGradTileX + 64 / int64_t(sizeof(S));

template <class S>
struct TileScratch {
  alignas(64) S x[kTileTokens * kTokenStride<S>];
  alignas(64) S y[kTileTokens * kGradTileY];
  alignas(64) S g[2][kGradTileY * kGradTileX];
};

// g [M x N vectors] = y^T x over `tokens`, on top of what is there unless `first`.
template <class S, int M, int N>
void outer_block(const S* x, const S* y, int64_t tokens, bool first, S* g) {
  Vec<S> acc[M][N];
  LGA_UNROLL for (int i = 0; i < M; ++i) LGA_UNROLL for (int j = 0; j < N; ++j) acc[i][j] =
      first ? Vec<S>{} : load(g + i * kGradTileX + j * kLanes<S>);
  for (int64_t t = 0; t < tokens; ++t, x += kTokenStride<S>, y += kGradTileY) {
    Vec<S> right[N];
    LGA_UNROLL for (int j = 0; j < N; ++j) right[j] = load(x + j * kLanes<S>);
    LGA_UNROLL for (int i = 0; i < M; ++i) LGA_UNROLL for (int j = 0; j < N; ++j) acc[i][j] +=
        y[i] * right[j];
  }
  LGA_UNROLL for (int i = 0; i < M; ++i) LGA_UNROLL for (int j = 0; j < N; ++j)
      store<S>(g + i * kGradTileX + j * kLanes<S>, acc[i][j]);
}

// One block of rows over the tile's whole width. A single row takes more columns at a time, so that
// enough sums are under way to hide the latency of an addition.
template <class S, int M>
void outer_rows(const S* x, const S* y, int64_t tokens, int64_t cols, bool first, S* g) {
  constexpr int kWide = M == 1 ? 8 : 2;
  int64_t c = 0;
  for (; c + kWide * kLanes<S> <= cols; c += kWide * kLanes<S>)
    outer_block<S, M, kWide>(x + c, y, tokens, first, g + c);
  for (; c < cols; c += kLanes<S>) outer_block<S, M, 1>(x + c, y, tokens, first, g + c);
}

// g [ny x nx] = y^T x at (row0, col0), zero in the columns up to the next whole vector.
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

// Sums run in S along a row of the tile (at most kGradTileX / lanes terms per lane), in double
// from row to row.
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
      sum += g < 0 ? -g : g;  // keeps nan
    }
    out += sum_lanes<S>(sum);
  }
  return out;
}

}  // namespace lga_fast::LGA_LEVEL
