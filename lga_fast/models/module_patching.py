"""Replacing modules' forward for a while, and outputs that may be wrapped in a tuple."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from lga_fast.errors import UnsupportedModel
from lga_fast.undo import undone

# What calling a module runs besides its forward.
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


class EndOfForward(Exception):
    """Ends a forward of which nothing more is needed; who raises it suppresses it."""


@contextmanager
def patched_forwards(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules run these functions instead of their own forward inside the `with`."""
    before = {module: vars(module).get("forward") for module in forwards}

    def undo() -> None:
        for module, forward in before.items():
            if forward is None:
                vars(module).pop("forward", None)
            else:
                module.forward = forward

    with undone(before, undo):
        for module, forward in forwards.items():
            module.forward = forward
        yield


@contextmanager
def hooked(
    register: Callable[..., Any], hook: Callable[..., Any], **options: Any
) -> Iterator[None]:
    """A hook is on a module inside the `with`.

    Args:
        register: the module's `register_forward_hook` or `register_forward_pre_hook`.
        hook: the hook.
        options: further arguments of `register`.
    """
    module = register.__self__

    def undo() -> None:  # without a handle: that is made after the hook is on the module
        attributes = vars(module)
        ids = [i for name in HOOKS for i, one in attributes[name].items() if one is hook]
        for name in HOOKS:
            for i in ids:
                attributes[name].pop(i, None)

    with undone((module,), undo):
        register(hook, **options)
        yield


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
