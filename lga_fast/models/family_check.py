"""Whether a family describes a model truly: taps against autograd, restarts, and KV caches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lga_fast.models.block_calls import (
    TOKENS,
    last_of_each_kind,
    layer_types,
    one_of_each_kind,
    short_row,
)
from lga_fast.models.families import ModelFamily
from lga_fast.models.family_guess import NotUnderstood
from lga_fast.models.fingerprint import at_rest
from lga_fast.models.kv_cache import CACHE
from lga_fast.models.module_lookup import Key, find_blocks, find_matrices, mixer_of
from lga_fast.models.module_patching import (
    hooked,
    patched_forwards,
    skip_block,
    tuple_length,
    unwrap_output,
    wrap_output,
)
from lga_fast.models.taps import Tap, Taps
from lga_fast.models.tensor_utils import grad_mode, whole_weight

# What a model raises that is not a decoder, such as one that needs an encoder's input too.
FOREIGN = (
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)
_MAX_ERROR = 16  # of dᵀa against autograd's gradient, in the dtype's epsilons
_FORMS = 1e-3  # what two ways of computing logits may differ by, of their norm


def largest_error(hf: Any, family: ModelFamily, name: str) -> float:
    """Largest relative difference of dᵀa and autograd's gradient, in one layer of each kind.

    And in the last layer.

    Raises:
        NotUnderstood: it is more than rounding, or what does not seem to run gets a gradient.
    """
    blocks = find_blocks(hf, family, name)
    modules, experts = find_matrices(blocks, family, name)
    layers = {*one_of_each_kind(blocks, layer_types(hf)), len(blocks) - 1}
    modules = {key: module for key, module in modules.items() if key[0] in layers}
    experts = {layer: one for layer, one in experts.items() if layer in layers}
    weights = {key: _plain_weight(key, module) for key, module in modules.items()}
    fused = {
        (layer, name): p for layer, one in experts.items() for name, p in one.weights().items()
    }
    idle = {
        f"{part}.{name} of block {layer}": p
        for layer in layers
        for part in family.others
        for name, p in _parameters(blocks[layer], part)
    }
    taps: dict[Key, Tap] = {}
    ids = short_row(hf)
    with at_rest(hf), grad_mode(True):
        with grad_mode(False):
            plain = hf(input_ids=ids, use_cache=False).logits
        asked = [*weights.values(), *fused.values(), *idle.values()]
        for weight in asked:
            weight.requires_grad_(True)
        with Taps(
            modules, lambda tap: taps.update({(tap.layer, tap.matrix): tap}), 1, experts
        ).listening():
            logits = hf(input_ids=ids, use_cache=False).logits
            loss = nn.functional.cross_entropy(logits[0, :-1].float(), ids[0, 1:])
            gradients = torch.autograd.grad(loss, asked, allow_unused=True)
    if not _alike(logits.detach(), plain):
        raise NotUnderstood("its experts do not compute what transformers' experts interface says")
    for part, gradient in zip(idle, gradients[len(asked) - len(idle) :], strict=True):
        if gradient is not None:
            raise NotUnderstood(f"{part} runs, though it is not called")
    wanted = dict(zip([*weights, *fused], gradients, strict=False))
    for layer, part in fused:
        by_role = experts[layer].by_role(part, wanted.pop((layer, part)))
        wanted |= {(layer, role): gradient for role, gradient in by_role.items()}
    return max(_difference(family, key, taps[key], wanted[key]) for key in wanted)


def _parameters(block: nn.Module, part: str) -> list[tuple[str, nn.Parameter]]:
    module = dict(block.named_modules()).get(part)
    return [] if module is None else list(module.named_parameters())


def _plain_weight(key: Key, module: nn.Module) -> nn.Parameter:
    weight = whole_weight(module)
    if weight is None:
        raise NotUnderstood(f"{key[1]} of layer {key[0]} has no plain weight")
    return weight


def _difference(family: ModelFamily, key: Key, tap: Tap, gradient: Tensor | None) -> float:
    """Difference of dᵀa from autograd's gradient, of its norm.

    Raises:
        NotUnderstood: it is more than rounding, or there is no gradient.
    """
    layer, path = key[0], family.matrices.get(key[1], f"{key[1]} of {family.experts}")
    if gradient is None or not gradient.any():
        raise NotUnderstood(f"{path} of layer {layer} gets no gradient, so nothing confirms it")
    a, d = tap.a.to(gradient), tap.d.to(gradient)
    product = tap.routing.gradients(a, d) if tap.routing else d.T @ a
    product = product.T if family.orientation == "in_out" and not tap.routing else product
    difference = float((product - gradient).norm() / gradient.norm())
    if not difference <= _MAX_ERROR * torch.finfo(gradient.dtype).eps:
        raise NotUnderstood(
            f"taps on {path} of layer {layer} give a gradient that differs from autograd's by "
            f"{difference:.1e} of its norm"
        )
    return difference


@torch.no_grad()
def can_restart(hf: Any, family: ModelFamily, name: str) -> bool:
    """Whether forwards can start at a block, and with what its mixer gave before.

    Tried at the last block of each kind; the blocks before it do not run.
    """
    blocks, ids = find_blocks(hf, family, name), short_row(hf)
    mixers = {b: mixer for b in blocks if (mixer := mixer_of(b, family)) is not None}
    hidden: dict[nn.Module, Tensor] = {}
    outputs: dict[nn.Module, Any] = {}

    def enter(block: nn.Module, args: tuple[Any, ...]) -> None:
        hidden[block] = args[0]

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        outputs[module] = output

    def again(module: nn.Module) -> Callable[..., Any]:
        output = outputs[module]
        return lambda *args, **kwargs: wrap_output(unwrap_output(output), tuple_length(output))

    try:
        with at_rest(hf), ExitStack() as stack:
            for module in (*blocks, *mixers.values()):
                stack.enter_context(hooked(module.register_forward_hook, leave))
            for block in blocks:
                stack.enter_context(hooked(block.register_forward_pre_hook, enter))
            whole = hf(input_ids=ids, use_cache=False).logits
        for layer in last_of_each_kind(blocks, layer_types(hf)):
            block = blocks[layer]
            skipped = {b: partial(skip_block, tuple_length(outputs[b])) for b in blocks[:layer]}
            mixed = {mixers[block]: again(mixers[block])} if block in mixers else {}
            with (
                hooked(block.register_forward_pre_hook, lambda m, args: (hidden[m], *args[1:])),
                at_rest(hf),
                patched_forwards(skipped | mixed),
            ):
                logits = hf(input_ids=ids, use_cache=False).logits
            if hidden[block].shape[:2] != ids.shape or not torch.equal(logits, whole):
                return False
    except FOREIGN:
        return False
    return True


@torch.no_grad()
def continues(hf: Any) -> bool:
    """Whether a row can be continued token by token, with the cache that a forward returns."""
    ids, inputs = short_row(hf), {}
    half = TOKENS // 2
    try:
        with at_rest(hf):
            whole = hf(input_ids=ids, use_cache=False).logits
            for begin, end in ((0, half), *((i, i + 1) for i in range(half, TOKENS))):
                output = hf(input_ids=ids[:, begin:end], use_cache=True, **inputs)
                inputs = {CACHE: output[CACHE]}
                if not _alike(output.logits[:, -1], whole[:, end - 1]):
                    return False
    except FOREIGN:
        return False
    return True


def _alike(one: Tensor, other: Tensor) -> bool:
    limit = max(_FORMS, torch.finfo(one.dtype).eps ** 0.5)
    return float((one.float() - other.float()).norm()) <= limit * float(other.float().norm())
