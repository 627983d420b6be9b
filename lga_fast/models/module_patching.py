"""Replacing modules' forward for a while, and outputs that may be wrapped in a tuple."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from lga_fast.errors import UnsupportedModel


@contextmanager
def patched_forwards(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules run these functions instead of their own forward inside the `with`."""
    before = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                vars(module).pop("forward", None)
            else:
                module.forward = forward


def unwrap_output(output: Any) -> Tensor:
    """A module's output, taken out of a tuple if it is the first of one."""
    return output[0] if isinstance(output, tuple) else output


def change_output(
    shape: Sequence[int],
    change: Callable[[Tensor], Tensor],
    module: nn.Module,
    args: tuple[Any, ...],
    output: Any,
) -> Any:
    """Hook: the output with `change` made to it as [row token d], where `shape` is [row token]."""
    # OPT's MLP sees rows and tokens as one axis.
    hidden = change(unwrap_output(output).view(*shape, -1)).view_as(unwrap_output(output))
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def refuse_streams(hidden: Tensor, shape: Sequence[int]) -> None:
    """Refuse values that are not one vector for each token, of [row token] of this shape.

    Raises:
        UnsupportedModel: they are of several residual streams (Gemma 3n).
    """
    if hidden.shape[:-1].numel() != math.prod(shape):
        raise UnsupportedModel(
            f"expected hidden states of {tuple(shape)} rows and tokens, got shape "
            f"{tuple(hidden.shape)}: the model's blocks have several residual streams, so their "
            "outputs cannot be changed or read. Edit at the MLP, with loss_layer=None"
        )


def tuple_length(output: Any) -> int:
    """Length of the tuple in which a module returns its output; 0: no tuple."""
    return len(output) if isinstance(output, tuple) else 0


def wrap_output(hidden: Tensor, length: int) -> Any:
    """`hidden` in a tuple of this length, as a module returns it; 0: no tuple."""
    return (hidden, *[None] * (length - 1)) if length else hidden


def skip_block(length: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Forward of a block that is skipped; `length` as of `wrap_output`."""
    return wrap_output(hidden, length)
