"""Naming what makes a model's numbers NaN or infinite, once they are."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from lga_fast.errors import NonFinite
from lga_fast.models.editable import EditableModel


def check_logits(model: EditableModel, values: Tensor) -> None:
    """Refuse logits of which these few `values` were computed, one or more of each position.

    Raises:
        NonFinite: a value is NaN or infinite.
    """
    if bad := int((~values.isfinite()).sum()):
        raise NonFinite(
            f"{model.name!r}: expected finite logits, got NaN or infinite ones at {bad} of "
            f"{values.numel()} positions; {explain(model)}"
        )


def explain(model: EditableModel) -> str:
    """Which parameters are at fault, or else the dtype, and how to mend it; reads all weights."""
    names = list(islice((name for name, x in model.weights() if _damaged(x)), 4))
    if names:
        more = " and others" if names[3:] else ""
        held = ", ".join(names[:3])
        return f"weights hold NaN or infinity: {held}{more}; repair them or fetch them again"
    dtype = str(model.dtype).removeprefix("torch.")
    wider = "bfloat16 or float32" if dtype == "float16" else "float64"
    edits = ", or remove the edits in effect" if model.edited_names() else ""
    return f"all parameters are finite, so {dtype} overflows: load the model as {wider}{edits}"


def _damaged(x: Tensor) -> bool:
    # Packed tensors need not know `isfinite`; offloaded ones have no values here.
    if x.is_meta or is_traceable_wrapper_subclass(x) or not x.is_floating_point():
        return False
    return not torch.isfinite(x.float() if x.itemsize == 1 else x).all()
