"""Ways of running a model that its own forward does not offer.

- `decoding`: continuations with a KV cache; `layer_major`, `tensor_store`: blocks as the outer loop
- `clean_run`, `patched_forward`: the model without and with a change of one layer's output
- `partial_forward`, `prefix_cache`: forwards that start in the middle of a recorded one
- `packed_suffix`, `packed_attention`: the same without padding, all rows on one token axis
- `per_row_edits`: every row of a batch under its own edit; `cpu_fast_paths`: ops a CPU runs faster
"""
