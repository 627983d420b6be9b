"""Ways of running a model that its own forward does not offer.

- `decoding`: continuations with a KV cache; `layer_major`, `tensor_store`: blocks as the outer loop
- `clean_run`, `patched_forward`: the model without and with a change of one layer's output;
  `suffix_forward`: of which only what the change reaches
- `partial_forward`: forwards that start in the middle of a recorded one; `packed_suffix`: without
  padding, all rows on one token axis; `prefix_attention`: over recorded keys and values, in both
- `per_row_edits`: every row of a batch under its own edit; `cpu_fast_paths`: ops a CPU runs faster
"""
