// Gram form of grad_dot on the CPU.
//
// A pair's tokens, old before new, are the n rows of a matrix x (first a, then d). One unit of work
// computes one tile of the upper triangle of x.x^T for a and for d and sums their elementwise
// product. The triangle has n(n+1)/2 entries where three separate products (old.new, old.old,
// new.new) have 3/4 n^2, and a and d are read once.
//
// Chunks of kDepth columns are packed as S. Blocks of kM x kN token rows accumulate a chunk in
// registers, one vector per entry, and add it to a tile of vectors at the end of the chunk. Lanes
// are therefore summed only once per unit, and a sum over columns is a sum of short sums, which is
// more accurate than one long chain.
//
// Measured (one thread, AVX-512, GFLOP/s counting useful entries only, 17 and 200 tokens,
// 768 x 3072):
//   tile of 64 instead of 32: a long pair reads the last-level cache half as often; 50 -> 62 at 200
//   clearing the tile before the first chunk instead of overwriting it: 45 -> 27 at 17
//   chunks of 256, 512, 1024 columns: 64, 55, 57 at 200; 384 is within noise of 256 and was kept
//   summing lanes through memory instead of shuffles: part of a drop from 45 to 34 at 17
#pragma once

#include "cpu_vec.h"

namespace lga_fast::LGA_LEVEL {

// kM * kN accumulators and kM + 1 operands fill the register file: 32 with AVX-512, otherwise 16.
#if defined(__AVX512F__)
constexpr int kM = 4, kN = 4;
#else
constexpr int kM = 3, kN = 4;
#endif
constexpr int64_t kDepth = 384;
constexpr int64_t kGramPad = kGramTile + 4;  // tile edges round up to a multiple of 4

// One cache line longer than a chunk, so that rows map to different sets of the L1 cache.
template <class S>
constexpr int64_t kRowStride = kDepth + 64 / int64_t(sizeof(S));

template <class S>
struct GramScratch {
  alignas(64) S x[kGramPad * kRowStride<S>];
  alignas(64) S y[kGramPad * kRowStride<S>];
  alignas(64) Vec<S> sums[kGramPad * kGramPad];
  S a[kGramPad * kGramPad];
};

template <class S, int M, int N>
void gram_block(const S* x, const S* y, int64_t depth, bool first, Vec<S>* sums) {
  Vec<S> acc[M][N];
  LGA_UNROLL for (int i = 0; i < M; ++i) {
    LGA_UNROLL for (int j = 0; j < N; ++j) acc[i][j] = Vec<S>{};
  }
  for (int64_t k = 0; k < depth; k += kLanes<S>) {
    Vec<S> left[M];
    LGA_UNROLL for (int i = 0; i < M; ++i) left[i] = load(x + i * kRowStride<S> + k);
    LGA_UNROLL for (int j = 0; j < N; ++j) {
      const Vec<S> right = load(y + j * kRowStride<S> + k);
      LGA_UNROLL for (int i = 0; i < M; ++i) acc[i][j] += left[i] * right;
    }
  }
  LGA_UNROLL for (int i = 0; i < M; ++i) {
    LGA_UNROLL for (int j = 0; j < N; ++j) {
      Vec<S>& sum = sums[i * kGramPad + j];
      sum = first ? acc[i][j] : sum + acc[i][j];
    }
  }
}

template <class S>
using GramBlock = void (*)(const S*, const S*, int64_t, bool, Vec<S>*);

// The block for m x n token rows: those at the edge of a tile are smaller than kM x kN.
template <class S, int M>
GramBlock<S> gram_block_for(int64_t n) {
  static_assert(kN == 4);
  constexpr GramBlock<S> blocks[] = {gram_block<S, M, 1>, gram_block<S, M, 2>, gram_block<S, M, 3>,
                                     gram_block<S, M, 4>};
  return blocks[n - 1];
}
template <class S>
GramBlock<S> gram_block_for(int64_t m, int64_t n) {
  if (m == 1) return gram_block_for<S, 1>(n);
  if (m == 2) return gram_block_for<S, 2>(n);
  if (m == 3) return gram_block_for<S, 3>(n);
  return gram_block_for<S, kM>(n);
}

struct TokenRange {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};
inline TokenRange gram_range(int64_t tokens, int64_t tile) {
  const int64_t tiles = gram_tiles(tokens);
  auto edge = [&](int64_t t) {
    const int64_t at = ceil_div(t * tokens / tiles, 4) * 4;
    return at < tokens ? at : tokens;
  };
  return {edge(tile), edge(tile + 1)};
}

// Packs columns [col, col + cols) of a range of the pair's tokens, old before new.
template <class S>
void pack_tokens(const Matrix& old_x, const Matrix& new_x, TokenRange range, int64_t col,
                 int64_t cols, S* dst) {
  const int64_t n_old = old_x.rows;
  const int64_t ld = ceil_div(cols, kLanes<S>) * kLanes<S>;
  for (int64_t t = range.begin; t < range.end; ++t, dst += kRowStride<S>) {
    const bool is_old = t < n_old;
    pack(is_old ? old_x : new_x, is_old ? t : t - n_old, 1, col, cols, dst, ld);
  }
}

// s.sums = tile (i, j) of x.x^T, with the lanes of each entry still to be summed.
template <class S>
void gram_tile(const Matrix& old_x, const Matrix& new_x, TokenRange i, TokenRange j,
               GramScratch<S>& s) {
  const bool diagonal = i.begin == j.begin;
  for (int64_t col = 0; col < old_x.cols; col += kDepth) {
    const int64_t cols = old_x.cols - col < kDepth ? old_x.cols - col : kDepth;
    pack_tokens(old_x, new_x, i, col, cols, s.x);
    if (!diagonal) pack_tokens(old_x, new_x, j, col, cols, s.y);
    const S* y = diagonal ? s.x : s.y;
    for (int64_t m = 0; m < i.size(); m += kM) {
      const int64_t m_size = i.size() - m < kM ? i.size() - m : kM;
      for (int64_t n = 0; n < j.size(); n += kN) {
        const int64_t n_size = j.size() - n < kN ? j.size() - n : kN;
        if (diagonal && n + n_size <= m) continue;  // below the diagonal
        gram_block_for<S>(m_size, n_size)(s.x + m * kRowStride<S>, y + n * kRowStride<S>, cols,
                                          col == 0, s.sums + m * kGramPad + n);
      }
    }
  }
}

template <class S>
DotSums gram_unit(const TokenRow& old_row, const TokenRow& new_row, int64_t tile_i, int64_t tile_j,
                  void* scratch) {
  GramScratch<S>& s = *static_cast<GramScratch<S>*>(scratch);
  const int64_t n_old = old_row.a.rows, tokens = n_old + new_row.a.rows;
  const TokenRange i = gram_range(tokens, tile_i), j = gram_range(tokens, tile_j);
  const bool diagonal = tile_i == tile_j;

  gram_tile(old_row.a, new_row.a, i, j, s);
  for (int64_t m = 0; m < i.size(); ++m)
    for (int64_t n = diagonal ? m : 0; n < j.size(); ++n)
      s.a[m * kGramPad + n] = sum_lanes<S>(s.sums[m * kGramPad + n]);

  gram_tile(old_row.d, new_row.d, i, j, s);
  DotSums out = {0, 0, 0};
  for (int64_t m = 0; m < i.size(); ++m) {
    const bool m_old = i.begin + m < n_old;
    for (int64_t n = diagonal ? m : 0; n < j.size(); ++n) {
      const double product =
          double(s.a[m * kGramPad + n]) * double(sum_lanes<S>(s.sums[m * kGramPad + n]));
      const bool n_old_too = j.begin + n < n_old;
      const double twice = i.begin + m == j.begin + n ? product : 2 * product;
      if (m_old && n_old_too)
        out.norm2_old += twice;
      else if (m_old)
        out.dot += product;
      else
        out.norm2_new += twice;
    }
  }
  return out;
}

// Where both rows have the same a. A tile of a's Gram matrix meets four tiles of d's: within the
// old row, within the new one, and between them; on the diagonal the two between are each other's
// mirror.
template <class S>
DotSums shared_gram_unit(const TokenRow& old_row, const TokenRow& new_row, int64_t tile_i,
                         int64_t tile_j, void* scratch) {
  GramScratch<S>& s = *static_cast<GramScratch<S>*>(scratch);
  const int64_t tokens = old_row.a.rows;
  const TokenRange i = gram_range(tokens, tile_i), j = gram_range(tokens, tile_j);
  const bool diagonal = tile_i == tile_j;

  gram_tile(old_row.a, new_row.a, i, j, s);
  for (int64_t m = 0; m < i.size(); ++m)
    for (int64_t n = diagonal ? m : 0; n < j.size(); ++n) {
      const S sum = sum_lanes<S>(s.sums[m * kGramPad + n]);
      s.a[m * kGramPad + n] = sum;
      if (diagonal) s.a[n * kGramPad + m] = sum;
    }

  // Tokens of the new row come after the old row's.
  auto with_d = [&](bool i_new, bool j_new) {
    const int64_t i_shift = i_new ? tokens : 0, j_shift = j_new ? tokens : 0;
    gram_tile(old_row.d, new_row.d, {i.begin + i_shift, i.end + i_shift},
              {j.begin + j_shift, j.end + j_shift}, s);
    const bool within = i_new == j_new, triangle = diagonal && within;
    double total = 0;
    for (int64_t m = 0; m < i.size(); ++m)
      for (int64_t n = triangle ? m : 0; n < j.size(); ++n) {
        const double product =
            double(s.a[m * kGramPad + n]) * double(sum_lanes<S>(s.sums[m * kGramPad + n]));
        total += within && !(triangle && m == n) ? 2 * product : product;
      }
    return total;
  };
  DotSums out = {with_d(false, true), with_d(false, false), with_d(true, true)};
  if (!diagonal) out.dot += with_d(true, false);
  return out;
}

}  // namespace lga_fast::LGA_LEVEL
