"""Modules that act on each token alone, run only at the tokens that matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from lga_fast.models.editable import EditableModel
from lga_fast.models.module_patching import tuple_length, unwrap_output, wrap_output
from lga_fast.models.tensor_utils import to_device


def last_mlp(model: EditableModel) -> nn.Module | None:
    """The MLP after which no token sees another: it need run only where the head reads.

    None where it is not a module with all of its matrices in it.
    """
    last, inside = model.layers - 1, f"{model.family.mlp}."
    whole = all(path.startswith(inside) for path in model.family.matrices.values())
    able = whole and model.restarts and last in model.whole_mlps
    return model.part(last, "mlp") if able else None


def at_tokens(
    forward: Callable[[Tensor], Any],
    index: Int[Tensor, " token"],
    unchanged: Tensor | None,
    hidden: Float[Tensor, "*rows d"],
) -> Any:
    """Forward of a module that acts on each token alone, at some tokens; elsewhere `unchanged`.

    None: zeros, where nobody reads it. `index` is of the flat token axis, each token once.
    """
    index = to_device(index, hidden.device)
    flat = hidden.flatten(0, -2)
    picked = flat.index_select(0, index)
    output = forward(picked if hidden.ndim == 2 else picked.unsqueeze(0))
    values = unwrap_output(output).flatten(0, -2)
    if unchanged is None:
        full = values.new_zeros(len(flat), values.shape[-1])
    else:
        full = unchanged.flatten(0, -2)
    full = full.index_copy(0, index, values)
    return wrap_output(full.view(*hidden.shape[:-1], -1), tuple_length(output))
