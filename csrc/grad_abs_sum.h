// grad_abs_sum: sum |G| per row for G = d^T a, a tile of G at a time.
//
//   a [token d_in], d [token d_out], rows [row 2] = (start, length)  ->  [row]
//
// There is no factored form of a sum of absolute values, so every entry of G is formed once.
#pragma once
