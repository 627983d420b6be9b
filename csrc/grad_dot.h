// grad_dot: <G_old, G_new>, |G_old|^2, |G_new|^2 per pair for G = d^T a, G never formed as a whole.
//
//   a_* [token d_in], d_* [token d_out], rows_* [pair 2] = (start, length)  ->  [pair 3]
//
//   Gram form   <d1^T a1, d2^T a2> = sum_ts (a1 a2^T)_ts (d1 d2^T)_ts
//   tiled form  tiles of G_old and G_new are formed, multiplied and dropped
//
// The form is chosen per pair by the multiply-adds it takes.
#pragma once

#include <cstdint>

namespace lga_fast {

// Multiply-adds of n tokens (old and new together): n(n+1)/2 Gram entries over d_in + d_out against
// n outer products of d_in x d_out and three sums over the tiles. `width` rounds a vector axis up
// to what the machine computes at once.
static inline bool gram_is_cheaper(int64_t n, int64_t d_in, int64_t d_out, int64_t width) {
  auto up = [width](int64_t d) { return double((d + width - 1) / width * width); };
  const double wide = up(d_in > d_out ? d_in : d_out);
  const double other = double(d_in > d_out ? d_out : d_in);
  const double gram = 0.5 * double(n) * double(n + 1) * (up(d_in) + up(d_out));
  return gram <= double(n + 3) * wide * other;
}

}  // namespace lga_fast
