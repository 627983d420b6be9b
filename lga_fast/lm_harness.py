"""Moved to `lga_fast.evaluation.lm_harness`; this alias goes in the next version."""

from lga_fast.evaluation.lm_harness import run_tasks

__all__ = ["run_tasks"]
