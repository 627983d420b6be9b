"""What all tests share."""

from __future__ import annotations

import sys

import pytest
import tiny
import torch
from torch.overrides import TorchFunctionMode


class KeepDouble(TorchFunctionMode):
    """Lets float64 models stay float64: transformers rounds norms and softmax to float32."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            name = getattr(function, "__name__", "")
            if name == "float" or (name == "to" and torch.float32 in (*args[1:], *kwargs.values())):
                return args[0]
            if name == "type" and sys._getframe(1).f_globals["__name__"].startswith("transformers"):
                return args[0]
            if name == "softmax" and kwargs.get("dtype") == torch.float32:
                kwargs["dtype"] = torch.float64
            if name in ("matmul", "__matmul__"):  # rotary angles of transformers before 5.23
                args = (args[0], args[1].double())
        return function(*args, **kwargs)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """A cache folder that is not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def keep_double():
    """float64 all the way through transformers' models."""
    with KeepDouble():
        yield


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    """Folder of a small bfloat16 Llama with its tokenizer, as save_pretrained writes it."""
    path = tmp_path_factory.mktemp("model")
    model = tiny.model("llama", torch.bfloat16)
    model.hf.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path
