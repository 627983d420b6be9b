"""Modules that run another forward for a while, and outputs that may come in a tuple."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def patched_forwards(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules run these instead of their own forward while inside."""
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
    """A module's output, also where it comes first in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def tuple_length(output: Any) -> int:
    """How a module returns its output: the length of the tuple; 0: bare."""
    return len(output) if isinstance(output, tuple) else 0


def wrap_output(hidden: Tensor, length: int) -> Any:
    """`hidden` as a module returns it: in a tuple of this length, or bare for 0."""
    return (hidden, *[None] * (length - 1)) if length else hidden
