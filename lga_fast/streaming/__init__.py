"""Models whose weights do not fit in memory: read block by block from their checkpoint.

- `streamed_model`, `streamed_memory`: the model, and what it may hold
- `checkpoint`, `checkpoint_files`, `safetensors_reader`: tensors by the model's names; their bytes
- `meta_model`, `block_loader`, `lazy_embedding`: the model on `meta`, its blocks and embedding rows
- `skeleton`: the few blocks that run to find out how a model without a family file is built
- `on_demand_forward`: the model's own forward, weights loaded when a block is called
- `edit_overlay`: edits, added to each block that is read
"""
