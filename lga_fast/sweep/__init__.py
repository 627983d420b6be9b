"""Sweeps: every request edited at every layer, and what the results say of the layers.

- `layer_edits`: requests edited at some layers, and what each edit did
- `run`: `sweep`, the exhaustive search; `sweep_run`: its state, which can be resumed
- `result`, `result_file`: what a sweep measured, in memory and on disk
- `statistics`: means, resamples, regret; `successive_halving`: a search with few edits
"""
