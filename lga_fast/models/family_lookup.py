"""The family of a model: its file, or a guess from the structure that autograd has confirmed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lga_fast import registry
from lga_fast.errors import TapError, UnsupportedModel
from lga_fast.models import families
from lga_fast.models.families import ModelFamily
from lga_fast.models.family_guess import NotUnderstood, blocks_path, guess, short_row
from lga_fast.models.fingerprint import at_rest
from lga_fast.models.module_lookup import find_blocks, find_matrices, whole_weight
from lga_fast.models.taps import Tap, Taps

# What running a model raises that is no decoder, such as one that wants an encoder's input too.
_FOREIGN = (AttributeError, RuntimeError, StopIteration, TypeError, ValueError)
_ROUNDING = 16  # times a dtype's epsilon: how far dᵀa may be from autograd's gradient


def family_of(hf: Any) -> tuple[str, ModelFamily, str]:
    """Name and family of a transformers model, and what to say of it if it was guessed.

    Raises:
        UnsupportedModel: there is no family file, and the structure is not understood or taps on
            what it seems to be do not give the gradients that autograd gives.
    """
    if found := families.find(hf.config):
        return *found, ""
    name = families.model_types(hf.config)[0]
    try:
        family = guess(hf)
        worst = _confirm(hf, family, name)
    except (NotUnderstood, TapError, UnsupportedModel, *_FOREIGN) as error:
        raise UnsupportedModel(_help(hf, name, error)) from error
    roles = ", ".join(f"{role} {path}" for role, path in family.matrices.items())
    note = (
        f"There is no family file for {name!r}: its blocks ({family.blocks}) and matrices "
        f"({roles}) were guessed, and taps on the first and the last layer gave autograd's "
        f"gradients (largest difference {worst:.0e})."
    )
    return name, family, note


def _confirm(hf: Any, family: ModelFamily, name: str) -> float:
    """Largest relative difference of dᵀa and autograd's gradient, first and last layer.

    Raises:
        NotUnderstood: one is too large.
    """
    modules, _ = find_matrices(find_blocks(hf, family, name), family, name)
    last = max(layer for layer, _ in modules)
    modules = {key: module for key, module in modules.items() if key[0] in (0, last)}
    weights = {key: whole_weight(module) for key, module in modules.items()}
    if packed := [key for key, weight in weights.items() if weight is None]:
        raise NotUnderstood(f"{packed[0][1]} of layer {packed[0][0]} has no plain weight")
    taken: dict[tuple[int, str], Tap] = {}
    ids = short_row(hf)
    with at_rest(hf), torch.enable_grad():
        for weight in weights.values():
            weight.requires_grad_(True)  # type: ignore[union-attr]
        with Taps(modules, lambda tap: taken.update({(tap.layer, tap.matrix): tap})):
            logits = hf(input_ids=ids, use_cache=False).logits[0, :-1].float()
            loss = nn.functional.cross_entropy(logits, ids[0, 1:])
            gradients = torch.autograd.grad(loss, list(weights.values()))  # type: ignore[arg-type]
    worst = 0.0
    for (layer, role), gradient in zip(weights, gradients, strict=True):
        tap = taken[layer, role]
        made = tap.d.to(gradient).T @ tap.a.to(gradient)
        made = made.T if family.orientation == "in_out" else made
        difference = float((made - gradient).norm() / gradient.norm())
        if not difference <= _ROUNDING * torch.finfo(gradient.dtype).eps:
            raise NotUnderstood(
                f"taps on {family.matrices[role]} of layer {layer} give a gradient that differs "
                f"from autograd's by {difference:.1e} of its norm"
            )
        worst = max(worst, difference)
    return worst


def _help(hf: nn.Module, name: str, why: Exception) -> str:
    """What the model has, and what a family file of it needs."""
    experts = ""
    try:
        blocks = blocks_path(hf)
        block = hf.get_submodule(f"{blocks}.0")
        own = {path: dict(m.named_parameters(recurse=False)) for path, m in block.named_modules()}
        held = [
            f"  {path}: {type(block.get_submodule(path)).__name__} "
            + ", ".join(f"{name} {tuple(p.shape)}" for name, p in parameters.items())
            for path, parameters in own.items()
            if parameters
        ]
        fused = [path for path, m in block.named_modules() if hasattr(m, "has_gate")]
        experts = "".join(f"    experts={path!r},\n" for path in fused)
        block_text = f"{blocks}.0 ({type(block).__name__}) holds\n" + "\n".join(held)
    except NotUnderstood:
        blocks = "..."
        block_text = f"{type(hf).__name__} has: {', '.join(dict(hf.named_children()))}"
    known = ", ".join(registry.names(families.__name__))
    return (
        f"no family file for model_type {name!r}. Known: {known}. It cannot be guessed: {why}.\n"
        f"{block_text}\nTo add it, write models/families/{name}.py with\n"
        "from lga_fast.models.families import ModelFamily\n"
        "FAMILY = ModelFamily(\n"
        f"    blocks={blocks!r},\n"
        "    matrices={'up': ..., 'down': ...},\n"
        "    attention=...,\n"
        "    mlp=...,\n"
        f"    final_norm=...,\n{experts})"
    )
