"""What a model's own forward hands to its blocks, found without running them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from lga_fast.errors import UnsupportedModel
from lga_fast.forward.partial_forward import formed, replaced


@dataclass(frozen=True)
class Call:
    """What the model's own forward hands to its blocks, for one batch."""

    hidden: Float[Tensor, "row token d_model"]  # entering the first block
    others: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]  # by block: all else


def record_call(
    hf: Any, blocks: nn.ModuleList, form: int, inputs: Mapping[str, Any], until: int
) -> Call:
    """Run a model's forward with blocks that hand on what they get.

    Args:
        hf: the model.
        blocks: its blocks; a block's first argument is the hidden states, whatever else it takes.
        form: of a block's output; see `restart.form_of`.
        inputs: of the forward.
        until: blocks after which it stops.

    Raises:
        UnsupportedModel: the model does something to the hidden states between its blocks.
    """
    entering: list[Tensor] = []
    others: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def pass_by(layer: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        entering.append(hidden)
        also = any(other is hidden for other in (*args, *kwargs.values()))
        if layer != len(others) or hidden is not entering[0] or also:
            raise UnsupportedModel(
                f"{type(hf).__name__} does not hand hidden states from block to block as they are "
                f"(seen at block {layer}), so that blocks cannot run one at a time; load it with "
                "weights='resident'"
            )
        others.append((args, kwargs))
        if len(others) == until:
            raise _Recorded
        return formed(hidden, form)

    forwards = {block: partial(pass_by, layer) for layer, block in enumerate(blocks)}
    with replaced(forwards), suppress(_Recorded):
        hf(**inputs)
    return Call(entering[0], others)


class _Recorded(Exception):
    """All that a forward hands to its blocks is known."""
