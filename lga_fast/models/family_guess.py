"""Guessing a model's family from its modules and the order in which they run."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lga_fast.models.families import ModelFamily
from lga_fast.models.fingerprint import at_rest
from lga_fast.models.tensor_utils import shape_of

_TOWERS = ("vision", "visual", "image", "audio", "speech", "encoder")
_TOKENS = 6


class NotUnderstood(Exception):
    """Why no family can be guessed from a structure."""


@dataclass(frozen=True)
class _Call:
    """One call of a module in a forward."""

    path: str
    module: nn.Module
    input: Tensor | None  # the first one
    output: Any


def guess(hf: Any) -> ModelFamily:
    """What a family file would say of this model, from its modules and a forward of a short row.

    Raises:
        NotUnderstood: the model has something that decoders of the known families do not have.
    """
    if any(p.is_meta for p in hf.parameters()):
        raise NotUnderstood("a guess needs weights in memory to be confirmed")
    blocks = blocks_path(hf)
    first = f"{blocks}.0"
    calls = _calls(hf, blocks)
    inside = [c for c in calls if c.path == first or c.path.startswith(f"{first}.")]
    d_model = next(c.input for c in inside if c.path == first and c.input is not None).shape[-1]
    linear = {c.path[len(first) + 1 :]: c.module for c in inside if _is_linear(c.module)}
    matrices, parent = _matrices(linear, d_model)
    down = _single(inside, f"{first}.{matrices['down']}")
    mlp = parent or matrices["down"]
    if parent:
        module = hf.get_submodule(f"{first}.{parent}")
        linears = [module.get_submodule(p[len(parent) + 1 :]) for p in matrices.values()]
        known = {id(p) for one in linears for p in one.parameters()}
        if any(p.ndim > 1 and id(p) not in known for p in module.parameters()):
            raise NotUnderstood(f"{parent} has weights besides {', '.join(matrices.values())}")
        output = _single(inside, f"{first}.{parent}").output
        if not (isinstance(output, Tensor) and torch.equal(output, down.output)):
            mlp = matrices["down"]  # the module adds something to the MLP's output
    others = [path for path in linear if path not in matrices.values()]
    if not others:
        raise NotUnderstood("there is no attention next to the MLP")
    output = _single(inside, f"{first}.{mlp}").output
    return ModelFamily(
        blocks=blocks,
        matrices=matrices,
        attention=others[0].split(".")[0],
        final_norm=_final_norm(calls, blocks, d_model),
        mlp=mlp,
        post_mlp_norm=any(c.input is output and _is_norm(c.module, d_model) for c in inside),
        packs=False,  # whether it obeys a 4-axis mask is not known
        orientation="in_out" if type(down.module).__name__ == "Conv1D" else "out_in",
    )


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


def _matrices(linear: dict[str, nn.Module], d_model: int) -> tuple[dict[str, str], str]:
    """Paths by role, and their common parent, of linear modules in the order of their calls."""
    candidates = [path for path, module in linear.items() if shape_of(module)[0] == d_model]
    if not candidates:
        raise NotUnderstood(f"no linear module has {d_model} outputs, as the block has")
    down = candidates[-1]  # the MLP's last matrix is the last to run
    parent = down.rpartition(".")[0]
    inner = shape_of(linear[down])[1]
    ups = [p for p in linear if p != down and p.rpartition(".")[0] == parent]
    shapes = [shape_of(linear[p]) for p in ups]
    if "att" in parent.lower() or not 1 <= len(ups) <= 2:
        raise NotUnderstood(f"{down} runs last, but does not look like an MLP's last matrix")
    if shapes in ([(inner, d_model)], [(inner, d_model)] * 2):
        if len(ups) == 1:
            return {"up": ups[0], "down": down}, parent
        gate = next((p for p in ups if "gate" in p.rpartition(".")[2]), ups[0])
        up = next(p for p in ups if p != gate)
        return {"gate": gate, "up": up, "down": down}, parent
    if shapes == [(2 * inner, d_model)]:
        return {"gate_up": ups[0], "down": down}, parent
    raise NotUnderstood(f"{', '.join(ups)} have shapes {shapes}, {down} has {inner} inputs")


def _final_norm(calls: list[_Call], blocks: str, d_model: int) -> str:
    last = max(i for i, c in enumerate(calls) if c.path.startswith(f"{blocks}."))
    norms = [c.path for c in calls[last + 1 :] if _is_norm(c.module, d_model)]
    if not norms:
        raise NotUnderstood("no norm follows the last block")
    return norms[0]


def _calls(hf: Any, blocks: str) -> list[_Call]:
    """Calls in a forward of a short row: of modules in the first block, all blocks, and outside."""
    calls: list[_Call] = []

    def record(path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        inputs = [*args, *kwargs.values()]
        first = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        calls.append(_Call(path, module, first, output))

    with ExitStack() as stack, torch.no_grad(), at_rest(hf):
        for path, module in hf.named_modules():
            deep = path.startswith(f"{blocks}.") and path.count(".") > blocks.count(".") + 1
            if path and not (deep and not path.startswith(f"{blocks}.0.")):
                hook = module.register_forward_hook(
                    lambda m, a, k, out, path=path: record(path, m, a, k, out), with_kwargs=True
                )
                stack.callback(hook.remove)
        hf(input_ids=short_row(hf), use_cache=False)
    return calls


def short_row(hf: Any) -> Int[Tensor, "1 token"]:
    """Token ids that every language model has."""
    embedding = hf.get_input_embeddings().weight
    return (torch.arange(_TOKENS, device=embedding.device) % len(embedding)).unsqueeze(0)


def _single(calls: list[_Call], path: str) -> _Call:
    matching = [call for call in calls if call.path == path]
    if len(matching) != 1:
        raise NotUnderstood(f"{path} ran {len(matching)} times in one forward")
    return matching[0]


def _is_linear(module: nn.Module) -> bool:
    return hasattr(module, "in_features") or type(module).__name__ == "Conv1D"


def _is_norm(module: nn.Module, d_model: int) -> bool:
    weights = [p for p in module.parameters() if p.ndim == 1]
    return not list(module.children()) and any(len(p) == d_model for p in weights[:1])
