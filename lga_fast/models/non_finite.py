"""Naming what makes a model's numbers NaN or infinite, once they are."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def explain(weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype, edited: bool) -> str:
    """Which of a model's weights are at fault, or else its dtype, and how to mend it."""
    names = list(islice((name for name, x in weights if _damaged(x)), 4))
    if names:
        more = " and others" if names[3:] else ""
        held = ", ".join(names[:3])
        return f"weights hold NaN or infinity: {held}{more}; repair them or fetch them again"
    narrow = str(dtype).removeprefix("torch.")
    wider = "bfloat16 or float32" if dtype == torch.float16 else "float64"
    edits = ", or remove the edits in effect" if edited else ""
    return f"all parameters are finite, so {narrow} overflows: load the model as {wider}{edits}"


def _damaged(x: Tensor) -> bool:
    # Packed tensors need not know `isfinite`; offloaded ones have no values here.
    if x.is_meta or is_traceable_wrapper_subclass(x) or not x.is_floating_point():
        return False
    return not torch.isfinite(x.float() if x.itemsize == 1 else x).all()
