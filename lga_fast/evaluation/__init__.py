"""Evaluation: requests are edited and measured, and the results written as they come.

`evaluate` is the public function: it checks the `options`, opens the `results_file`, and runs the
`loop`, which knows no editor and no metric. Several processes write `shards` of the results, which
the first puts together. `lm_harness` runs tasks of another harness under an edit.
"""
