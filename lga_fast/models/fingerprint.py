"""A short checksum of a model, and the state in which its weights are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from lga_fast.undo import finish, undone

Sample = tuple[str, torch.Size, Tensor]  # a parameter's name, shape, and some of its values
SAMPLED = 64  # values of every parameter in a fingerprint
# Of a configuration, what says how the model was loaded or made.
_NOT_THE_MODEL = ("dtype", "transformers_version", "_name_or_path", "dequantised_from")


@contextmanager
def at_rest(hf: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients for any parameter; both restored on exit."""
    finish(hf.modules())
    training = {module: module.training for module in hf.modules()}
    tracked = [(p, p.requires_grad) for p in hf.parameters()]

    def undo() -> None:
        for p, needed in tracked:
            if p.requires_grad != needed:
                p.requires_grad_(needed)
        for module, mode in training.items():
            module.training = mode

    with undone(training, undo):
        hf.eval()
        for p, needed in tracked:
            if needed:
                p.requires_grad_(False)
        yield


def samples(hf: nn.Module, count: int) -> Iterator[Sample]:
    """`count` values of every parameter, and of the buffers that quantised modules have instead."""
    for name, parameter in hf.named_parameters():
        yield from _sample(name, parameter, count)
    for path, module in hf.named_modules():
        if hasattr(module, "in_features") and getattr(module, "weight", None) is None:
            for name, buffer in module.named_buffers(recurse=False):
                yield from _sample(f"{path}.{name}", buffer, count)


def fingerprint(config: Any, values: Iterable[Sample], device: torch.device) -> str:
    """A short checksum of a configuration and of samples of the weights."""
    settings = config.to_dict()
    for name in _NOT_THE_MODEL:
        settings.pop(name, None)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    parts = []
    for name, shape, sample in sorted(values, key=lambda value: value[0]):
        digest.update(f"{name}{tuple(shape)}".encode())
        parts.append(sample)
    # together where they are alike: a cast of each of 580 parameters is 580 launches on CUDA
    alike = groupby(parts, key=lambda part: (part.dtype, part.device))
    joined = [torch.cat(list(group)).float().to(device) for _, group in alike]
    digest.update(torch.cat(joined).cpu().numpy().tobytes())  # waits for the device once
    return digest.hexdigest()[:16]


def _sample(name: str, tensor: Tensor, count: int) -> Iterator[Sample]:
    if is_traceable_wrapper_subclass(tensor):  # made of several tensors, as torchao's are
        for part in tensor.__tensor_flatten__()[0]:
            yield from _sample(f"{name}.{part}", getattr(tensor, part), count)
        return
    yield name, tensor.shape, sampled(tensor, count)


def sampled(tensor: Tensor, count: int) -> Tensor:
    """`count` values of a tensor, evenly spread over it."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // count)][:count]
