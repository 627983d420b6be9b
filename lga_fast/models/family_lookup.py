"""The family of a model: from its file, or guessed from the structure and checked by autograd."""

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
from lga_fast.models.module_lookup import find_blocks, find_matrices
from lga_fast.models.taps import Tap, Taps
from lga_fast.models.tensor_utils import whole_weight

# What a model raises that is not a decoder, such as one that needs an encoder's input too.
_FOREIGN = (AttributeError, RuntimeError, StopIteration, TypeError, ValueError)
_MAX_ERROR = 16  # of dᵀa against autograd's gradient, in the dtype's epsilons


def family_of(hf: Any) -> tuple[str, ModelFamily, str]:
    """Name and family of a transformers model, and a note for results if it was guessed.

    Raises:
        UnsupportedModel: there is no family file, and the structure is not understood or taps on
            the guessed modules do not reproduce autograd's gradients.
    """
    if known := families.find(hf.config):
        return *known, ""
    name = families.model_types(hf.config)[0]
    try:
        family = guess(hf)
        error = _largest_error(hf, family, name)
    except (NotUnderstood, TapError, UnsupportedModel, *_FOREIGN) as why:
        raise UnsupportedModel(_refusal(hf, name, why)) from why
    roles = ", ".join(f"{role} {path}" for role, path in family.matrices.items())
    note = (
        f"There is no family file for {name!r}: its blocks ({family.blocks}) and matrices "
        f"({roles}) were guessed, and taps on the first and the last layer gave autograd's "
        f"gradients (largest difference {error:.0e})."
    )
    return name, family, note


def _largest_error(hf: Any, family: ModelFamily, name: str) -> float:
    """Largest relative difference of dᵀa and autograd's gradient, in the first and the last layer.

    Raises:
        NotUnderstood: it is more than rounding.
    """
    modules, _ = find_matrices(find_blocks(hf, family, name), family, name)
    last = max(layer for layer, _ in modules)
    modules = {key: module for key, module in modules.items() if key[0] in (0, last)}
    weights = {key: whole_weight(module) for key, module in modules.items()}
    if packed := [key for key, weight in weights.items() if weight is None]:
        raise NotUnderstood(f"{packed[0][1]} of layer {packed[0][0]} has no plain weight")
    taps: dict[tuple[int, str], Tap] = {}
    ids = short_row(hf)
    with at_rest(hf), torch.enable_grad():
        for weight in weights.values():
            weight.requires_grad_(True)  # type: ignore[union-attr]
        with Taps(modules, lambda tap: taps.update({(tap.layer, tap.matrix): tap})):
            logits = hf(input_ids=ids, use_cache=False).logits[0, :-1].float()
            loss = nn.functional.cross_entropy(logits, ids[0, 1:])
            gradients = torch.autograd.grad(loss, list(weights.values()))  # type: ignore[arg-type]
    worst = 0.0
    for (layer, role), gradient in zip(weights, gradients, strict=True):
        tap = taps[layer, role]
        product = tap.d.to(gradient).T @ tap.a.to(gradient)
        product = product.T if family.orientation == "in_out" else product
        difference = float((product - gradient).norm() / gradient.norm())
        if not difference <= _MAX_ERROR * torch.finfo(gradient.dtype).eps:
            raise NotUnderstood(
                f"taps on {family.matrices[role]} of layer {layer} give a gradient that differs "
                f"from autograd's by {difference:.1e} of its norm"
            )
        worst = max(worst, difference)
    return worst


def _refusal(hf: nn.Module, name: str, why: Exception) -> str:
    """Why the family is not known, what the model has, and the family file to fill in."""
    experts = ""
    try:
        blocks = blocks_path(hf)
        block = hf.get_submodule(f"{blocks}.0")
        own = {path: dict(m.named_parameters(recurse=False)) for path, m in block.named_modules()}
        lines = [
            f"  {path}: {type(block.get_submodule(path)).__name__} "
            + ", ".join(f"{name} {tuple(p.shape)}" for name, p in parameters.items())
            for path, parameters in own.items()
            if parameters
        ]
        fused = [path for path, m in block.named_modules() if hasattr(m, "has_gate")]
        experts = "".join(f"    experts={path!r},\n" for path in fused)
        block_text = f"{blocks}.0 ({type(block).__name__}) holds\n" + "\n".join(lines)
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
