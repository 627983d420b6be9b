"""Taps: inputs of linear maps and the gradients of their outputs, seen once each and let go.

For a linear map with inputs `a` and output-gradients `d` the weight's gradient is `dᵀa`
(arXiv 2602.20207 §5.1 needs only inner products of those). Taps hand out the two factors while
autograd walks back, so the weights stay frozen and no gradient of a weight's size is formed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lga_fast.errors import TapError

Key = tuple[int, str]  # layer, role of the matrix


@dataclass(frozen=True)
class Tap:
    """Factors of one matrix's gradient; rows of a batch follow each other on the token axis."""

    layer: int
    matrix: str
    a: Float[Tensor, "token d_in"]
    d: Float[Tensor, "token d_out"]


class Taps:
    """Listens to `modules` for one forward and `backwards` backward passes; a context manager.

    `on_tap` is called inside the backward, last layer first; what it is given must not be kept.
    Modules must be frozen: the graph starts at the first tapped output that nothing before it
    tracks, so that autograd does no work below the lowest tap.

    Raises:
        TapError: a module ran twice in one forward, or a gradient did not arrive until exit.
    """

    def __init__(
        self, modules: Mapping[Key, nn.Module], on_tap: Callable[[Tap], None], backwards: int = 1
    ):
        self._modules = modules
        self._on_tap = on_tap
        self._backwards = backwards
        self._waiting: dict[Key, tuple[Tensor, int]] = {}  # inputs, gradients to come
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Taps:
        for key, module in self._modules.items():
            self._handles.append(module.register_forward_hook(partial(self._seen, key)))
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        waiting = list(self._waiting)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._waiting.clear()
        if waiting and kind is None:
            raise TapError(
                f"{_name(waiting[0])} and {len(waiting) - 1} other taps got no gradient: was "
                "backward() called inside the `with`, outside torch.no_grad()?"
            )

    def _seen(self, key: Key, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if key in self._waiting:
            raise TapError(
                f"{_name(key)} ran twice before its gradient came: modules shared between layers, "
                "or a second forward before the backward, cannot be scored"
            )
        self._waiting[key] = args[0].detach(), self._backwards
        if not output.requires_grad:
            output.requires_grad_()
        self._handles.append(output.register_hook(partial(self._gradient, key)))

    def _gradient(self, key: Key, d: Tensor) -> None:
        # After `with` has closed, a late backward must find nothing to do rather than half a tap.
        a, left = self._waiting.pop(key, (None, 0))
        if a is None:
            return
        if left > 1:
            self._waiting[key] = a, left - 1
        layer, matrix = key
        self._on_tap(Tap(layer, matrix, a.flatten(0, -2), d.flatten(0, -2)))


def _name(key: Key) -> str:
    return f"layer {key[0]}, matrix {key[1]!r}"
