"""All of a model and of its process that lga_fast changes for a while."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lga_fast import progress
from lga_fast.models.module_patching import HOOKS

_SETTINGS = ("_attn_implementation", "_experts_implementation")


def state(model) -> dict[str, Any]:
    """What must be as before, by name."""
    modules = dict(model.hf.named_modules())
    return {
        "weights": {n: p.is_meta or _bytes(p) for n, p in model.hf.named_parameters()},
        "gradients": {n: (p.requires_grad, p.grad is None) for n, p in model.hf.named_parameters()},
        "training": {name: module.training for name, module in modules.items()},
        "hooks": {name: _hooks(module) for name, module in modules.items()},
        "own attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "settings": [getattr(m.config, s, 0) for m in _configured(modules) for s in _SETTINGS],
        "functions": [sorted(f) for f in (ALL_EXPERTS_FUNCTIONS, ALL_ATTENTION_FUNCTIONS)],
        "random": (torch.get_rng_state().tolist(), random.getstate(), _numpy()),
        "process": (torch.get_num_threads(), torch.is_grad_enabled(), progress._around.get()),
        "tokenizer": (model.tokenizer.padding_side, model.tokenizer.pad_token),
        "edits": model.edited_names(),
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of what has changed."""
    return [name for name, value in before.items() if after[name] != value]


def _bytes(p: torch.Tensor) -> bytes:
    return p.detach().flatten().view(torch.uint8).numpy().tobytes()


def _configured(modules):
    return [module for module in modules.values() if hasattr(module, "config")]


def _hooks(module: nn.Module) -> list[Any]:
    return [list(vars(module)[name]) for name in HOOKS]


def _numpy() -> Any:
    kind, keys, *rest = np.random.get_state()
    return kind, keys.tolist(), rest
