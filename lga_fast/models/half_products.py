"""Products in half precision on a CPU without instructions for it: float32 inside.

There torch multiplies bfloat16 and float16 number by number, 7 times as slowly as float32 and in a
backward 30 times. Here a piece of a weight is converted at a time (`pieced_linear`), and the sum is
rounded once: as fast as float32, or faster where reading weights takes the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lga_fast.models.pieced_linear import pieced_linear
from lga_fast.undo import undone


@contextmanager
def half_products(hf: nn.Module) -> Iterator[None]:
    """Products of half-precision tensors on such a CPU run in float32 while inside."""
    # On `meta` are weights that come when they are used.
    here = {p.dtype for p in hf.parameters() if p.device.type in ("cpu", "meta")}
    if not _slow_dtypes() & here:
        yield
        return
    mode = _WideProducts()

    def undo() -> None:
        if mode in torch.overrides._get_current_function_mode_stack():
            mode.__exit__(None, None, None)

    with undone((), undo):
        mode.__enter__()
        yield


@cache
def _slow_dtypes() -> frozenset[torch.dtype]:
    if not torch.backends.mkldnn.is_available():
        return frozenset()
    native = torch.ops.mkldnn
    supported = {
        torch.bfloat16: native._is_mkldnn_bf16_supported,
        torch.float16: native._is_mkldnn_fp16_supported,
    }
    return frozenset(dtype for dtype, is_supported in supported.items() if not is_supported())


class _WideProducts(TorchFunctionMode):
    """Whatever calls for a product, a module or a function, gets it in this form."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        form = _FORMS.get(func)
        if form and args and "out" not in kwargs and args[0].dtype in _slow_dtypes():
            return form(func, *args, **kwargs)
        return func(*args, **kwargs)


def _linear(func: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    alone = x.numel() == x.shape[-1]  # torch's product with one vector is fast
    ours = weight.ndim == 2 and weight.device.type == "cpu" and weight.dtype == x.dtype
    if alone or weight.requires_grad or not ours:
        return func(x, weight, bias)
    return pieced_linear(x, weight, bias)


def _addmm(func: Any, bias: Tensor, x: Tensor, weight: Tensor, **options: Any) -> Tensor:
    """Conv1D's product."""
    if options or bias.ndim != 1:
        return func(bias, x, weight, **options)
    return _linear(lambda *_: func(bias, x, weight), x, weight.T, bias)


def _widened(func: Any, *args: Any, **kwargs: Any) -> Tensor:
    """The same of float32 tensors, rounded; what an attention multiplies is no weight."""
    dtype = args[0].dtype

    def wide(x: Any) -> Any:
        ours = isinstance(x, Tensor) and x.dtype == dtype and x.device.type == "cpu"
        return x.float() if ours else x

    named = {name: wide(x) for name, x in kwargs.items()}
    return func(*map(wide, args), **named).to(dtype)


_FORMS: dict[Any, Callable[..., Tensor]] = {
    functional.linear: _linear,
    torch.addmm: _addmm,
    **dict.fromkeys((torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__), _widened),
    functional.scaled_dot_product_attention: _widened,
}
