"""Finding a family's modules in a model, with errors that list what is there instead."""

from __future__ import annotations

from torch import nn

from lga_fast.errors import UnsupportedModel
from lga_fast.models.families import ModelFamily
from lga_fast.models.moe import Experts, experts_of
from lga_fast.models.tensor_utils import whole_weight

Key = tuple[int, str]  # layer, role of the matrix
SHARED = "shared_"  # roles of an MLP beside the experts start so


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
            experts[layer] = experts_of(block.get_submodule(family.experts), where)
        roles = _roles(family, layer in experts)
        mixes = not any(path in paths for path in roles.values()) and not left_out(block, family)
        for role, path in roles.items():
            # A block may have no MLP at all; a mixture need not have one beside its experts.
            if path in paths or not (mixes or layer in experts):
                modules[layer, role] = _matrix(block, layer, role, path, family, name)
    return modules, experts


def mixer_of(block: nn.Module, family: ModelFamily) -> nn.Module | None:
    """The module of a block that mixes tokens, the first one if there are several.

    None: the block is an MLP alone, or has it where the family does not say.
    """
    paths = _mixers(block, family)
    return block.get_submodule(paths[0]) if paths else None


def left_out(block: nn.Module, family: ModelFamily) -> list[str]:
    """Weights of two or more axes, and their shapes, of which a family does not say what they are.

    They are in no mixer, no matrix of the block, no experts, no router, and not in `others`.
    """
    has = dict(block.named_modules())
    experts = has.get(family.experts) if family.experts else None
    # A router has an output for each expert, the gate of an MLP beside them has one.
    routes = set() if experts is None else {1, int(getattr(experts, "num_experts", 1))}
    roles = _roles(family, experts is not None)
    known = [*_mixers(block, family), *roles.values(), *family.others]
    known += [family.experts] if family.experts else []
    names = []
    for path, module in has.items():
        if any(path == one or path.startswith(f"{one}.") for one in known):
            continue
        for name, p in module.named_parameters(prefix=path, recurse=False):
            outputs = getattr(module, "out_features", p.shape[:1].numel())
            if p.ndim > 1 and outputs not in routes:  # else it is a router's
                names.append(f"{name} {tuple(p.shape)}")
    return names


def _roles(family: ModelFamily, mixture: bool) -> dict[str, str]:
    """Paths by role of the matrices that a block with or without experts may have."""
    return {r: p for r, p in family.matrices.items() if r.startswith(SHARED) == mixture}


def _mixers(block: nn.Module, family: ModelFamily) -> list[str]:
    """Paths of the modules that mix tokens; one that holds the MLP instead is none."""
    paths = {path for path, _ in block.named_modules()}
    feed_forward = [p for p in (*family.matrices.values(), family.experts) if p in paths]
    return [
        mixer
        for mixer in family.mixers
        if mixer in paths and not any(path.startswith(f"{mixer}.") for path in feed_forward)
    ]


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
