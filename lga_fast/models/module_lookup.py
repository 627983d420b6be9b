"""Finding a family's modules in a model, with errors that list what is there instead."""

from __future__ import annotations

from torch import nn

from lga_fast.errors import UnsupportedModel
from lga_fast.models.families import ModelFamily
from lga_fast.models.moe import Experts
from lga_fast.models.tensor_utils import whole_weight

Key = tuple[int, str]  # layer, role of the matrix


def find_blocks(hf: nn.Module, family: ModelFamily, name: str) -> nn.ModuleList:
    """The decoder blocks.

    Raises:
        UnsupportedModel: they are not where the family says.
    """
    try:
        return hf.get_submodule(family.blocks)  # type: ignore[return-value]
    except AttributeError as error:
        raise UnsupportedModel(
            f"family {name!r} says the blocks are at {family.blocks!r}, but {error}; "
            f"{type(hf).__name__} has: {', '.join(dict(hf.named_children()))}. Is it the causal "
            "language model (with its head)?"
        ) from None


def find_matrices(
    blocks: nn.ModuleList, family: ModelFamily, name: str
) -> tuple[dict[Key, nn.Module], dict[int, Experts]]:
    """Linear modules of all blocks, and the fused experts of the layers that have them.

    Raises:
        UnsupportedModel: a block lacks a matrix or stores it in the other orientation.
    """
    modules, experts = {}, {}
    for layer, block in enumerate(blocks):
        paths = {path for path, _ in block.named_modules()}
        if family.experts and family.experts in paths:
            where = f"family {name!r}, {family.experts!r} of layer {layer}"
            experts[layer] = Experts(block.get_submodule(family.experts), where)
        for role, path in family.matrices.items():
            # If some layers have experts, each has either those or the first three roles.
            optional = layer in experts or (family.experts and role.startswith("shared"))
            if path in paths or not optional:
                modules[layer, role] = _matrix(block, layer, role, path, family, name)
    return modules, experts


def _matrix(
    block: nn.Module, layer: int, role: str, path: str, family: ModelFamily, name: str
) -> nn.Module:
    try:
        module = block.get_submodule(path)
    except AttributeError as error:
        leaves = ", ".join(n for n, m in block.named_modules() if n and not list(m.children()))
        raise UnsupportedModel(
            f"family {name!r} says the {role} matrix of layer {layer} is at {path!r}, but {error}; "
            f"the block has: {leaves}"
        ) from None
    # The orientation follows from the class; from the shape it would not where d_in == d_out.
    stored = "in_out" if type(module).__name__ == "Conv1D" else "out_in"
    if stored != family.orientation and whole_weight(module) is not None:
        raise UnsupportedModel(
            f"family {name!r} says {family.orientation}, but {path!r} of layer {layer} is a "
            f"{type(module).__name__}, which stores {stored}"
        )
    return module
