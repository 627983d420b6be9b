"""What works on a small random model of an architecture; or why it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tiny
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import lga_fast
from lga_fast.editors import _value_solver
from lga_fast.errors import EditError, LgaFastError, UnsupportedModel
from lga_fast.forward.decoding import greedy
from lga_fast.forward.patched_forward import FullForward
from lga_fast.models import EditableModel
from lga_fast.models.block_calls import layer_types, mixes, one_of_each_kind, parts_of, record_calls
from lga_fast.records import EditRequest
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import build_pairs
from tests.architectures.configs import small_config
from tests.both_placements import assert_same_bits
from tests.conftest import KeepDouble
from tests.editors.value_cases import HOW

FACT = EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris")
LARGEST = 120_000_000  # parameters


@dataclass(frozen=True)
class Outcome:
    """What became of one architecture; `works` or not is all there may be."""

    name: str
    works: bool
    about: str  # how its modules are known and what it cannot do, or why it is refused


def try_out(name: str) -> Outcome:
    """Load, score, select, edit and decode a small model, in float64.

    Raises:
        AssertionError: something is wrong in silence.
        Exception: whatever else but a refusal.
    """
    torch.manual_seed(0)
    try:
        settings = small_config(name)
        with torch.device("meta"):
            size = sum(p.numel() for p in AutoModelForCausalLM.from_config(settings).parameters())
        if size > LARGEST:
            raise ValueError(f"{size:,} parameters, with the sizes that its config has")
        hf = AutoModelForCausalLM.from_config(
            settings, attn_implementation="eager", experts_implementation="eager"
        )
    except Exception as error:
        why = " ".join(str(error).split()).replace("|", "/")
        raise NoModel(f"{type(error).__name__}: {why[:160]}") from error
    with torch.no_grad():
        for p in hf.parameters():
            p.add_(torch.randn_like(p) * 0.05)
        embedding = hf.get_input_embeddings()
        if getattr(embedding, "padding_idx", None) is not None:
            embedding.weight[embedding.padding_idx] = 0  # as Youtu's code does on loading
    try:
        with KeepDouble():
            model = EditableModel(hf.double().eval(), tiny.byte_level(), f"tiny-{name}")
    except UnsupportedModel:
        try:  # some have constants of another precision in them
            model = EditableModel(hf.float(), tiny.byte_level(), f"tiny-{name}")
        except UnsupportedModel as error:
            return Outcome(name, False, _reason(str(error)))
    kinds = list(_kinds(model))
    with KeepDouble():
        _check_scores(model)
        _check_greedy(model)
    assert 0 <= int(lga_fast.select_layer(model, [FACT], "lga_new")) < model.layers
    for layer in sorted(set().union(*kinds)):
        _check_edit(model, layer)
    return Outcome(name, True, "; ".join([*_about(model), *_not_streamed(model)]))


class NoModel(Exception):
    """transformers does not make a small model of this architecture."""


def _reason(message: str) -> str:
    """The part of a refusal that says why."""
    _, guessed, why = message.partition("It cannot be guessed: ")
    return (why if guessed else message).splitlines()[0].replace("|", "/")


def _about(model: EditableModel) -> list[str]:
    """In a few words, what it is taken for, and what does not work."""
    family, mixture = model.family, len(model._experts)
    dense = len(model.mlp_layers) - mixture
    parts = ["guessed" if model.family_guess else "family file"]
    parts += [f"MLP in {dense} of {model.layers} layers"] if dense < model.layers else []
    shared = any((layer, "shared_down") in model.matrices() for layer in model._experts)
    parts += [f"experts in {mixture}{', and an MLP beside them' if shared else ''}"] * bool(mixture)
    parts += ["mixers " + ", ".join(family.mixers)] * (len(family.mixers) > 1)
    parts += ["no cache"] * (family.decoding == "plain")
    parts += ["every run starts at the embedding"] * (not model.restarts)
    parts += ["tried in float32"] * (model.dtype == torch.float32)
    return parts


def _not_streamed(model: EditableModel) -> list[str]:
    """Why weights are not read while they are used; nothing if that gives the same bits."""
    with TemporaryDirectory() as folder:
        model.hf.save_pretrained(folder)
        load = partial(
            lga_fast.load,
            folder,
            tokenizer=model.tokenizer,
            device="cpu",
            dtype="float32",
            attn_implementation="eager",
        )
        try:
            AutoModelForCausalLM.from_pretrained(folder)
        except ValueError:
            return ["not streamed: transformers does not load what it wrote"]
        resident = load()
        try:
            streamed = load(weights="streamed")
        except LgaFastError as error:
            return [f"not streamed: {_reason(str(error)).removeprefix(f'{folder!r}: ')}"]
        scores = [
            lga_fast.score_layers(m, [FACT], old="ground_truth") for m in (resident, streamed)
        ]
        assert_same_bits(scores[1], scores[0])
        for layer in resident.editable_layers[-1:]:
            how: dict[str, Any] = {"layer": layer, "steps": 2, "contexts": []}
            edits = [lga_fast.edit(m, [FACT], **how).deltas for m in (resident, streamed)]
            for name, delta in edits[0].items():
                assert torch.equal(delta.left, edits[1][name].left)
                assert torch.equal(delta.right, edits[1][name].right)
        rows, counts = [[5, 6, 7], [8, 9]], [3, 2]
        assert greedy(streamed, rows, counts) == greedy(resident, rows, counts)
    return []


def _kinds(model: EditableModel) -> Iterator[set[int]]:
    """The first, the middle and the last layer of each kind."""
    blocks, types = model._blocks, layer_types(model.hf)
    firsts = one_of_each_kind(blocks, types)
    for first in firsts:
        same = [
            layer
            for layer in range(model.layers)
            if one_of_each_kind(
                [blocks[first], blocks[layer]],
                [*types[first : first + 1], *types[layer : layer + 1]],
            )
            == [0]
        ]
        yield {same[0], same[len(same) // 2], same[-1]}


def _check_scores(model: EditableModel) -> None:
    """Sums over all weights of a layer's MLP equal those of autograd's gradients.

    What belongs to the MLP is found by running the block's parts, not from the family.
    """
    scores = lga_fast.score_layers(model, [FACT], old="ground_truth")
    (pair,), _ = build_pairs(model, [FACT], ScoringOptions("ground_truth"))
    side = _feed_forward_side(model)
    gradients = []
    with model.frozen(), torch.enable_grad():
        model.hf.requires_grad_(True)
        for row in (pair.old, pair.new):
            assert row is not None
            logits = model.hf(torch.tensor([row.ids]), use_cache=False).logits[0]
            labels = torch.tensor(row.ids[row.start :])
            loss = nn.functional.cross_entropy(logits[row.start - 1 : -1], labels)
            asked = [p for layer in side for p in layer]
            found = torch.autograd.grad(loss, asked, allow_unused=True)
            gradients.append([torch.zeros(()) if g is None else g for g in found])
    at = iter(zip(*gradients, strict=True))
    wanted = [sum(float((a * b).sum()) for a, b in (next(at) for _ in layer)) for layer in side]
    rtol, atol = (1e-4, 1e-12) if model.dtype == torch.float64 else (1e-2, 1e-5)
    np.testing.assert_allclose(scores.per_request("mlp_weights")[0], wanted, rtol=rtol, atol=atol)


def _feed_forward_side(model: EditableModel) -> list[list[nn.Parameter]]:
    """By layer, weights of two or more axes that neither mix tokens nor route them."""
    where = model.family.blocks
    calls = {c.path: c for c in record_calls(model.hf, where, range(model.layers))}
    side = []
    for layer, block in enumerate(model._blocks):
        parts = [
            part
            for part in parts_of(block)
            if part not in model.family.others and part not in _mixing(model, layer, calls)
        ]
        count = model._experts[layer].count if layer in model._experts else 0
        weights = [p for part in parts for p in block.get_submodule(part).parameters()]
        routers = [p for p in weights if count and p.ndim == 2 and p.shape[0] in (1, count)]
        side.append([p for p in weights if p.ndim > 1 and not any(p is r for r in routers)])
    return side


def _mixing(model: EditableModel, layer: int, calls: dict[str, Any]) -> list[str]:
    """A block's parts that mix tokens."""
    block, where = model.part(layer, "block"), f"{model.family.blocks}.{layer}."
    if not model.restarts:  # attention may read the keys of another layer alone
        return list(model.family.mixers)
    return [
        part for part in parts_of(block) if f"{where}{part}" in calls and mixes(calls[where + part])
    ]


def _check_greedy(model: EditableModel) -> None:
    """Decoding a batch equals growing each of its rows, without a cache."""
    prompts = [[5, 6, 7], list(range(20, 33)), [8, 9]]
    with torch.no_grad(), model.frozen():
        for prompt, answer in zip(prompts, greedy(model, prompts, [4, 2, 3]), strict=True):
            ids = list(prompt)
            for token in answer:
                logits = model.hf(torch.tensor([ids]), use_cache=False).logits[0, -1]
                assert int(logits.argmax()) == token, f"{model.name}: decodes another token"
                ids.append(token)


def _check_edit(model: EditableModel, layer: int) -> None:
    """An edit is right the short way and comes off bit by bit, where there is a matrix for it."""
    before = {name: p.clone() for name, p in model.hf.state_dict().items()}
    try:
        edit = lga_fast.edit(model, [FACT], "r_rome", layer=layer, steps=2, contexts=[])
    except EditError as error:
        assert "has no 'down' matrix of its own" in str(error), error
        return
    with model.edited(edit):
        name = next(iter(edit.deltas))
        changed = not torch.equal(before[name], model.hf.state_dict()[name])
        assert changed or layer > model.last_reaching_layer
    assert all(torch.equal(before[name], p) for name, p in model.hf.state_dict().items())
    how = replace(HOW, steps=2)
    full, suffix = (
        _value_solver.optimise(model, layer, [FACT], ["{}"], how, sites=("mlp",), **runner)
        for runner in ({"runner": FullForward}, {})
    )
    np.testing.assert_allclose(suffix[0].losses, full[0].losses, rtol=1e-5)
