"""Guessing a model's family from its modules and the order in which they run.

A block's top-level parts are mixers if later tokens' outputs depend on earlier tokens' inputs; all
else with weights of two or more axes is the feed-forward side, and all of it must be understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lga_fast.models.block_calls import (
    Call,
    layer_types,
    looks_ahead,
    mixes,
    one_of_each_kind,
    parts_of,
    record_calls,
)
from lga_fast.models.families import ModelFamily
from lga_fast.models.module_lookup import SHARED, left_out
from lga_fast.models.tensor_utils import shape_of

_TOWERS = ("vision", "visual", "image", "audio", "speech", "encoder")
_T = TypeVar("_T")


class NotUnderstood(Exception):
    """Why no family can be guessed from a structure."""


@dataclass(frozen=True)
class _Block:
    """What one kind of block is made of; paths are inside the block."""

    layer: int
    mixers: list[str]
    matrices: dict[str, str]
    experts: str
    mlp: str
    post_mlp_norm: bool
    in_out: bool
    idle: list[str]  # parts that do not run on text alone


def guess(hf: Any) -> ModelFamily:
    """What a family file would say of this model, from its modules and a forward of a short row.

    Raises:
        NotUnderstood: the model has something that decoders of the known families do not have.
    """
    path = blocks_path(hf)
    blocks = hf.get_submodule(path)
    layers = one_of_each_kind(blocks, layer_types(hf))
    if any(p.is_meta for layer in layers for p in blocks[layer].parameters()):
        raise NotUnderstood("a guess needs weights in memory to be confirmed")
    calls = record_calls(hf, path, layers)
    if looks_ahead(hf):
        raise NotUnderstood("a token's logits depend on later tokens, so it is no causal model")
    d_model = hf.get_input_embeddings().weight.shape[1]
    kinds = [_look_into(blocks[i], f"{path}.{i}", i, calls) for i in layers]
    with_mlp = [kind for kind in kinds if kind.matrices or kind.experts]
    if not with_mlp:
        raise NotUnderstood("no block has weights outside of what mixes tokens")
    dense = [kind for kind in with_mlp if not kind.experts]
    family = ModelFamily(
        blocks=path,
        matrices=_merged(kind.matrices for kind in with_mlp),
        attention=tuple(dict.fromkeys(mixer for kind in kinds for mixer in kind.mixers)),
        final_norm=_final_norm(calls, path, d_model),
        mlp=_same("the MLP's output", (kind.mlp for kind in dense or with_mlp)),
        experts=_same("experts", (kind.experts for kind in with_mlp if kind.experts)) or "",
        others=tuple(dict.fromkeys(part for kind in kinds for part in kind.idle)),
        post_mlp_norm=any(kind.post_mlp_norm for kind in kinds),
        packs=False,  # whether it obeys a 4-axis mask is not known
        decoding="equal",  # nor whether it has a state that would take up padding
        orientation=_same("orientation", ("in_out" if k.in_out else "out_in" for k in with_mlp)),
    )
    for layer in layers:
        if names := left_out(blocks[layer], family):
            raise NotUnderstood(
                f"block {layer} has weights that are in no mixer, no MLP, no fused experts and no "
                f"router: {', '.join(names)}"
            )
    return family


def blocks_path(hf: nn.Module) -> str:
    """Path of the longest list of modules that is in no other list and in no tower."""
    lengths: dict[str, int] = {}
    for path, module in hf.named_modules():
        tower = any(word in path.lower() for word in _TOWERS)
        nested = any(path.startswith(f"{outer}.") for outer in lengths)
        if isinstance(module, nn.ModuleList) and len(module) and not tower and not nested:
            lengths[path] = len(module)
    if not lengths:
        raise NotUnderstood("there is no ModuleList of decoder blocks")
    return max(lengths, key=lambda path: lengths[path])


def _look_into(block: nn.Module, where: str, layer: int, calls: list[Call]) -> _Block:
    """Tell a block's mixers from its MLP, and find the matrices of that."""
    prefix = len(where) + 1
    inside: dict[str, list[Call]] = {}
    for call in calls:
        if call.path.startswith(f"{where}."):
            inside.setdefault(call.path[prefix:], []).append(call)
    if not any(call.path == where for call in calls):
        raise NotUnderstood(f"block {layer} does not run on text alone")
    parts = list(parts_of(block))
    idle = [part for part in parts if part not in inside]
    mixers = [part for part in parts if part in inside and mixes(inside[part][0])]
    side = [path for path in inside if not _within(path, mixers)]  # in the order of their calls
    fused = [path for path in side if hasattr(inside[path][0].module, "num_experts")]
    fused = [path for path in fused if _has_fused_weights(inside[path][0].module)]
    if len(fused) > 1:
        raise NotUnderstood(f"block {layer} has experts at {' and '.join(fused)}")
    experts = fused[0] if fused else ""
    count = inside[experts][0].module.num_experts if experts else 0
    linear = {path: inside[path][0].module for path in side if _is_linear(inside[path][0].module)}
    if experts:  # a router has an output for each expert, a gate beside them has one
        linear = {path: m for path, m in linear.items() if shape_of(m)[0] not in (1, count)}
    matrices = _matrices(linear, layer)
    for path in [*matrices.values(), *fused]:
        if len(inside[path]) != 1:
            raise NotUnderstood(f"{where}.{path} ran {len(inside[path])} times in one forward")
    in_out = any(type(linear[path]).__name__ == "Conv1D" for path in matrices.values())
    mlp = _output(inside, matrices, experts)
    post = bool(experts) and not mlp  # then it is not known
    if mlp:
        output = _tensor(inside[mlp][0].output)
        others = [call for path, some in inside.items() for call in some if path != mlp]
        post = any(call.input is output and is_norm(call.module) for call in others)
    if experts:
        matrices = {f"{SHARED}{role}": path for role, path in matrices.items()}
    return _Block(layer, mixers, matrices, experts, mlp, post, in_out, idle)


def _matrices(linear: Mapping[str, nn.Module], layer: int) -> dict[str, str]:
    """Paths by role of linear modules in the order of their calls."""
    parents = dict.fromkeys(path.rpartition(".")[0] for path in linear)
    if len(parents) > 1:
        raise NotUnderstood(
            f"block {layer} has more than one MLP, or something beside it: {', '.join(linear)}"
        )
    if not linear:
        return {}
    *ups, down = linear
    d_model, inner = shape_of(linear[down])
    shapes = [shape_of(linear[path]) for path in ups]
    if shapes == [(inner, d_model)]:
        return {"up": ups[0], "down": down}
    if shapes == [(inner, d_model)] * 2:
        gate = next((p for p in ups if "gate" in p.rpartition(".")[2]), ups[0])
        up = next(p for p in ups if p != gate)
        return {"gate": gate, "up": up, "down": down}
    if shapes == [(2 * inner, d_model)]:
        return {"gate_up": ups[0], "down": down}
    raise NotUnderstood(
        f"{', '.join(linear)} of block {layer} have shapes {[*shapes, (d_model, inner)]}, which no "
        "MLP of two or three matrices has"
    )


def _output(inside: Mapping[str, list[Call]], matrices: Mapping[str, str], experts: str) -> str:
    """The module whose output is the MLP's; "": there is none."""
    parts = [*matrices.values(), *([experts] if experts else [])]
    if not parts:
        return ""
    parent = parts[0].rpartition(".")[0]
    while parent and not all(part.startswith(f"{parent}.") for part in parts):
        parent = parent.rpartition(".")[0]
    if experts:
        return parent if parent in inside else ""
    down = inside[matrices["down"]][0].output
    output = inside[parent][0].output if parent in inside else None
    same = isinstance(output, Tensor) and torch.equal(output, down)
    return parent if same else matrices["down"]  # the module may add something to the MLP's output


def _final_norm(calls: list[Call], blocks: str, d_model: int) -> str:
    last = max(i for i, c in enumerate(calls) if c.path.startswith(f"{blocks}."))
    norms = [c.path for c in calls[last + 1 :] if is_norm(c.module, d_model)]
    if not norms:
        raise NotUnderstood("no norm follows the last block")
    return norms[0]


def _merged(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Paths by role of all kinds of blocks."""
    paths: dict[str, str] = {}
    for matrices in parts:
        for role, path in matrices.items():
            if paths.setdefault(role, path) != path:
                raise NotUnderstood(f"the {role} matrix is at {paths[role]} or at {path}")
    return paths


def _same(what: str, values: Iterable[_T]) -> Any:
    """The one value of all kinds of blocks; None: there is none."""
    different = list(dict.fromkeys(values))
    if len(different) > 1:
        raise NotUnderstood(f"{what}: blocks differ, {' or '.join(map(str, different))}")
    return different[0] if different else None


def _within(path: str, parts: Iterable[str]) -> bool:
    return any(path == part or path.startswith(f"{part}.") for part in parts)


def _has_fused_weights(module: nn.Module) -> bool:
    return any(p.ndim == 3 for p in module.parameters(recurse=False))


def _is_linear(module: nn.Module) -> bool:
    return hasattr(module, "in_features") or type(module).__name__ == "Conv1D"


def is_norm(module: nn.Module, width: int | None = None) -> bool:
    """Whether a module is a norm, of so many values; some have no weights."""
    if list(module.children()):
        return False
    sizes = [p.numel() for p in module.parameters()][:1]
    named = "norm" in type(module).__name__.lower()
    return (not sizes and named) or (
        sizes != [] and width in (None, sizes[0]) and all(p.ndim == 1 for p in module.parameters())
    )


def _tensor(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output
