"""The family of a model: from its file, or guessed from the structure and checked by autograd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from lga_fast import registry
from lga_fast.errors import TapError, UnsupportedModel
from lga_fast.models import families
from lga_fast.models.families import ModelFamily
from lga_fast.models.family_check import FOREIGN, can_restart, continues, largest_error
from lga_fast.models.family_guess import NotUnderstood, blocks_path, guess


def family_of(hf: Any) -> tuple[str, ModelFamily, str]:
    """Name and family of a transformers model, and a note for results if it was guessed.

    Raises:
        UnsupportedModel: there is no family file, and the structure is not understood or taps on
            the guessed modules do not reproduce autograd's gradients.
    """
    if known := families.find(hf.config):
        name, family = known
        return name, _inside_wrapper(hf, family), ""
    name = families.model_types(hf.config)[0]
    try:
        family = guess(hf)
        error = largest_error(hf, family, name)
        family = replace(
            family,
            decoding=family.decoding if continues(hf) else "plain",
            restarts=can_restart(hf, family, name),
        )
    except (NotUnderstood, TapError, UnsupportedModel, *FOREIGN) as why:
        raise UnsupportedModel(_refusal(hf, name, why)) from why
    places = [f"{role} {path}" for role, path in family.matrices.items()]
    places += [f"experts {family.experts}"] if family.experts else []
    note = (
        f"There is no family file for {name!r}: its blocks ({family.blocks}) and matrices "
        f"({', '.join(places)}) were guessed. They are all weights outside of what mixes tokens "
        "and routers, and taps on a layer of each kind gave autograd's gradients (largest "
        f"difference {error:.0e})."
    )
    return name, family, note


def _inside_wrapper(hf: nn.Module, family: ModelFamily) -> ModelFamily:
    """The family of a text decoder, as paths from a multimodal model around it.

    Unchanged where the blocks are as the family says, or nowhere.
    """
    paths = dict(hf.named_modules())
    root, _, last = family.blocks.rpartition(".")
    if family.blocks in paths:
        return family
    try:
        blocks = blocks_path(hf)
    except NotUnderstood:
        return family
    inner = blocks.rpartition(".")[0]
    norm = f"{inner}.{family.final_norm.removeprefix(f'{root}.')}"
    if not blocks.endswith(f".{last}") or norm not in paths:
        return family
    # Whether the wrapper hands masks and positions on is not known.
    return replace(family, blocks=blocks, final_norm=norm, packs=False, decoding="equal")


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
