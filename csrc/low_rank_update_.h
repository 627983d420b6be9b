// low_rank_update_: weight += scale * left.right^T in place.
//
//   weight [d_out d_in] any strides, left [d_out rank], right [d_in rank]
//
// The sum over the rank and the addition run in float (double for a double weight), one rounding
// at the store. Where the weight lies column by column (GPT-2's Conv1D seen as [d_out d_in]), the
// transposed update is the same thing: weight^T += scale * right.left^T.
#pragma once
