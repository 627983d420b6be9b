"""Finding a family's modules in a model, with errors that say what is there instead."""

from __future__ import annotations

from torch import nn

from lga_fast.errors import UnsupportedModel
from lga_fast.models.families import ModelFamily


def find_blocks(hf: nn.Module, family: ModelFamily, name: str) -> nn.ModuleList:
    try:
        return hf.get_submodule(family.blocks)  # type: ignore[return-value]
    except AttributeError as error:
        raise UnsupportedModel(
            f"family {name!r} says the blocks are at {family.blocks!r}, but {error}; "
            f"{type(hf).__name__} has: {', '.join(dict(hf.named_children()))}. Is it the causal "
            "language model (with its head)?"
        ) from None


def find_matrix(
    block: nn.Module, layer: int, role: str, path: str, family: ModelFamily, name: str
) -> nn.Module:
    try:
        module = block.get_submodule(path)
    except AttributeError as error:
        inside = ", ".join(n for n, m in block.named_modules() if n and not list(m.children()))
        raise UnsupportedModel(
            f"family {name!r} says the {role} matrix of layer {layer} is at {path!r}, but {error}; "
            f"the block has: {inside}"
        ) from None
    # The class tells the orientation; the shape cannot where d_in == d_out.
    stored = "in_out" if type(module).__name__ == "Conv1D" else "out_in"
    if stored != family.orientation:
        raise UnsupportedModel(
            f"family {name!r} says {family.orientation}, but {path!r} of layer {layer} is a "
            f"{type(module).__name__}, which stores {stored}"
        )
    return module
