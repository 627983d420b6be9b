"""What MEMIT, EMMET, PMET and AlphaEdit share: one update for many requests, over some layers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from lga_fast import memory, provenance
from lga_fast.editors import _contexts, _keys, _moments, _value_solver
from lga_fast.editors._preconditioner import solved
from lga_fast.errors import EditError
from lga_fast.forward.clean_run import Readout
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.forward.patched_forward import FullForward
from lga_fast.models import EditableModel
from lga_fast.models.tensor_utils import wide
from lga_fast.records import EditRequest
from lga_fast.weight_edit import LowRank, WeightEdit

if TYPE_CHECKING:
    from lga_fast.editors._mass_editor import Editor

_LENGTHS, _PER_SEED = (10,), 1  # of the contexts: one of ten tokens for each seed word
_BATCH_TOKENS = 4096  # that are read at once
_LITTLE = 0.1  # of a change: if less than this is written, the user is told


class Update(NamedTuple):
    """One layer's change `left · rightᵀ`, in float64 on the CPU."""

    keys: Float64[Tensor, "request d_in"]
    left: Float64[Tensor, "d_out request"]
    right: Float64[Tensor, "d_in request"]
    written: list[float]  # share of its change that each key alone would get
    dependent: bool  # the keys do not tell the requests apart


class Mass:
    """One editor at one layer of one model, or over several that end there, ready to solve.

    Values are found at `layer`, the highest. Then, in ascending order, each layer takes its part of
    what is left to reach them, on the model that carries the changes so far (Meng et al. 2022,
    "Mass-editing memory in a transformer", arXiv 2210.07229, algorithm 1).

    Where a norm follows the MLP, no change of the down projection moves the residual stream by a
    given δ. Values are of the MLP's output then, not of the block's.

    Args:
        model: left as it was.
        layer: of the values; the highest of the editor's `layers`.
        editor: numbers and formula.
    """

    def __init__(self, model: EditableModel, layer: int, editor: Editor) -> None:
        self.model, self.layer, self.editor = model, layer, editor
        self.name = type(editor).__module__.rpartition(".")[2]
        self.layers = _ascending(editor.layers, layer)
        self.sites = editor.sites
        if model.family.post_mlp_norm and "block" in self.sites:
            self.sites = ("mlp",)
        self.how = editor.optimisation()
        self.made = provenance.of(model)  # before anything is applied: of the original model
        self.contexts = _contexts.of(model, editor, _LENGTHS, _PER_SEED)
        few = len(self.contexts) - 1
        weights = [0.5] + [0.5 / few] * few if few else [1.0]  # bare: half, the others: the rest
        self.weights = torch.tensor(weights, dtype=torch.float64)
        moments = _moments.of(model, self.layers, editor)  # of the original model, also later on
        self.directions = {n: editor.directions(moments[n]) for n in self.layers}

    def solve_joint(self, requests: Sequence[EditRequest]) -> WeightEdit:
        """One edit for all requests; they follow those of earlier calls, if there were any."""
        values = self._values(requests)
        updates = self._updates(requests, values)
        for layer, update in updates.items():
            self.directions[layer].remember(update.keys)
        return self._edit(requests, values, updates)

    def solve_independent(
        self, requests: Sequence[EditRequest], values: Sequence[_value_solver.Value] | None = None
    ) -> list[WeightEdit]:
        """One edit for each request, independent of all others; values: if they are there."""
        found = values or self._values(requests)
        pairs = [([r], [v]) for r, v in zip(requests, found, strict=True)]
        return [self._edit(*pair, self._updates(*pair)) for pair in pairs]

    def update(
        self,
        layer: int,
        keys: Float64[Tensor, "request d_in"],
        residual: Float64[Tensor, "request d_out"],
    ) -> Update:
        """The factors `left = Rᵀ (K M Kᵀ + ρI)⁻¹` and `right = M Kᵀ` of a layer's ΔW."""
        right, ridge = self.directions[layer](keys), self.editor.ridge(len(keys))
        left, dependent = solved(keys @ right.T, ridge, residual)
        reach = (keys * right).sum(1)
        if not all(torch.isfinite(x.type(torch.float32)).all() for x in (left, right)):
            raise EditError(
                f"layer {layer}: the update of {len(keys)} requests is not finite: a key or value "
                "overflowed; load the model as float32 or bfloat16"
            )
        return Update(keys, left.T, right.T, (reach / (reach + ridge)).tolist(), dependent)

    def _values(self, requests: Sequence[EditRequest]) -> list[_value_solver.Value]:
        return _value_solver.optimise(
            self.model, self.layer, requests, self.contexts, self.how, sites=self.sites
        )

    def _updates(
        self, requests: Sequence[EditRequest], values: Sequence[_value_solver.Value]
    ) -> dict[int, Update]:
        """Every layer's update, each found on the model that carries the ones before."""
        wanted = _exact(torch.stack([value.initial + value.delta for value in values]))
        found: dict[int, Update] = {}
        with ExitStack() as applied:
            for layer in self.layers:
                if len(self.layers) == 1:  # what the optimisation saw on its way
                    keys = torch.stack([value.keys for value in values])
                    residual = _exact(torch.stack([value.delta for value in values]))
                else:
                    keys, now = self._read(layer, requests)
                    residual = wanted - now
                keys = torch.einsum("c,rcd->rd", self.weights, _exact(keys))
                part = self.editor.part(len(self.layers) - len(found))
                found[layer] = self.update(layer, keys, part * residual)
                if layer != self.layer:
                    so_far = {"model_fingerprint": self.model.fingerprint()}
                    change = WeightEdit({self._weight(layer): _factors(found[layer])}, so_far)
                    applied.enter_context(self.model.edited(change))
        return found

    def _read(self, layer: int, requests: Sequence[EditRequest]) -> tuple[Tensor, Tensor]:
        """Keys [request context d_in] of a layer, and what the site gives now [request d_out]."""
        found = [_keys.answer_row(self.model, c, r) for r in requests for c in self.contexts]
        rows = [(row.ids[: at + 1], at) for row, at in found]  # attention is causal
        parts: dict[int, tuple[Tensor, Tensor]] = {}
        for batch in memory.batches(
            {i: len(ids) for i, (ids, _) in enumerate(rows)}, _BATCH_TOKENS
        ):
            few = _keys.rows_of([rows[i] for i in batch])
            first = torch.zeros(1, dtype=torch.long)
            reads = Readout(few.ids, few.subject, first, few.subject[:1])
            with (
                self.model.frozen(),
                fast_gelu(self.model.hf),
                _keys.listening(self.model, layer, few.places) as heard,
            ):
                seen = FullForward(self.model, self.layer, reads, self.sites[:1])
            now = wide(seen.initial[self.sites[0]])
            parts |= zip(batch, zip(heard["keys"], now, strict=True), strict=True)
        keys, now = (torch.stack([parts[i][side] for i in range(len(rows))]) for side in (0, 1))
        each = len(self.contexts)
        return keys.unflatten(0, (-1, each)), _exact(now[::each])

    def _weight(self, layer: int) -> str:
        return self.model.weight_name(layer, self.model.family.edited)

    def _edit(
        self,
        requests: Sequence[EditRequest],
        values: Sequence[_value_solver.Value],
        updates: dict[int, Update],
    ) -> WeightEdit:
        notes = [
            f"request {request.case_id!r}: {note}"
            for i, (request, value) in enumerate(zip(requests, values, strict=True))
            for note in self._notes(request, value, updates[self.layer].written[i])
        ]
        for layer, update in updates.items():
            notes += [f"layer {layer}: {note}" for note in self.directions[layer].notes]
            if update.dependent:
                notes.append(
                    f"layer {layer}: the keys of the {len(requests)} requests are linearly "
                    "dependent; those that cannot be told apart share their changes"
                )
        about = {
            "editor": self.name,
            "layer": self.layer,
            "layers": list(self.layers),
            "site": self.sites[0],
            "config": asdict(self.editor),
            "contexts": list(self.contexts),
            "requests": [asdict(request) for request in requests],
            "losses": [value.losses for value in values],
            "second_moment": {str(n): self.directions[n].report for n in self.layers},
            "written": {str(n): update.written for n, update in updates.items()},
            "notes": notes,
        }
        if self.sites != self.editor.sites:
            about["site_why"] = (
                f"a norm follows the MLP in {self.model.family_name}: a change of the residual "
                "stream is not one of the down projection"
            )
        changes = {self._weight(n): _factors(update) for n, update in updates.items()}
        return WeightEdit(changes, self.made | about)

    def _notes(self, request: EditRequest, value: _value_solver.Value, written: float) -> list[str]:
        """What the user should know of a request; `written` is of the last layer."""
        found, losses = _value_solver.notes(request, value), value.losses
        if losses[-1] >= losses[0] and len(losses) > 1:
            found.append(
                f"its loss did not fall ({losses[0]:.3g} to {losses[-1]:.3g}): a change at layer "
                f"{self.layer} does not reach the answer, or lr or weight_decay is too large"
            )
        if written < _LITTLE:
            found.append(
                f"only {written:.1%} of its change is written at layer {self.layer}; "
                f"{self.editor.damping} decides how much"
            )
        return found


def _ascending(layers: tuple[int, ...] | None, layer: int) -> tuple[int, ...]:
    """The layers to edit, lowest first."""
    found = tuple(sorted(layers or (layer,)))
    if found[-1] != layer or len({*found}) < len(found):
        raise EditError(
            f"layers {list(found)}: expected different ones, of which the highest is the layer "
            f"asked for, {layer}"
        )
    return found


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)


def _factors(update: Update) -> LowRank:
    return LowRank(update.left.type(torch.float32), update.right.type(torch.float32))
