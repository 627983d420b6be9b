"""What all tests share."""

from __future__ import annotations

import pytest
import torch
from torch.overrides import TorchFunctionMode


class _KeepDouble(TorchFunctionMode):
    """Lets float64 models stay float64: transformers rounds norms and softmax to float32."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            name = getattr(function, "__name__", "")
            if name == "float" or (name == "to" and torch.float32 in (*args[1:], *kwargs.values())):
                return args[0]
            if name == "softmax" and kwargs.get("dtype") == torch.float32:
                kwargs["dtype"] = torch.float64
        return function(*args, **kwargs)


@pytest.fixture
def keep_double():
    """float64 all the way through transformers' models."""
    with _KeepDouble():
        yield
