"""Models whose weights do not fit in memory: read block by block from their checkpoint.

- `streamed_model`, `streamed_memory` the model, and what it may hold
- `checkpoint`, `checkpoint_files`, `safetensors_reader` tensors by the model's names; their bytes
- `block_loader`, `lazy_embedding`, `meta_model` blocks, embedding rows and buffers of a meta model
- `on_demand_forward` the model's own forward; `edit_overlay` edits added to each block read
"""
