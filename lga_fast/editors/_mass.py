"""What MEMIT, EMMET, PMET and AlphaEdit share: one update for many requests, over some layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lga_fast import provenance
from lga_fast.editors import _contexts, _keys, _moment_sources, _value_solver
from lga_fast.editors._layer_editor import LayerEditor
from lga_fast.editors._moments import Moments
from lga_fast.editors._preconditioner import Preconditioner, Update, solve_update
from lga_fast.editors._value_problem import Optimisation, Value
from lga_fast.errors import EditError
from lga_fast.forward.clean_run import Site
from lga_fast.models import EditableModel
from lga_fast.options import option
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit

_LITTLE = 0.1  # the user is warned if less than this share of a change is written


@dataclass(frozen=True)
class MassEditor(LayerEditor):
    """Base of the mass editors: a member adds its formula, M and ρ of `solve_update`."""

    sites: ClassVar[tuple[Site, ...]] = ("block",)
    damping: ClassVar[str]  # the option that decides how much of a change is written
    context_lengths = (10,)
    contexts_per_seed = 1

    loss_layer: int | None = option(
        None, "Layer after which the answer is read; default: the last.", min=0
    )
    layers: tuple[int, ...] | None = option(
        None, "Layers to spread the change over; default: only the edited one.", min=0
    )

    def measure(self, model: EditableModel, layers: Sequence[int]) -> None:
        """The second moments."""
        _moment_sources.store(model, layers, self)

    @abstractmethod
    def preconditioner(self, moment: Moments) -> Preconditioner:
        """The method's M for a layer with this second moment."""

    @abstractmethod
    def ridge(self, requests: int) -> float:
        """The method's ρ for so many requests."""

    def part(self, layers_left: int) -> float:
        """The share of the residual that the first of so many layers takes."""
        return 1 / layers_left

    def optimisation(self) -> Optimisation:
        """Settings of the values' optimisation."""
        return replace(super().optimisation(), loss_layer=self.loss_layer)

    def prepare(self, model: EditableModel, layer: int) -> MassSolver:
        """Contexts and second moments of the model as it is."""
        return MassSolver(model, layer, self)


class MassSolver:
    """One mass editor on one model, at one layer or over several of which it is the highest.

    Values are optimised at `layer`. Then, in ascending order, each layer takes its part of what is
    left to reach them, on the model that carries the changes so far (Meng et al. 2022,
    "Mass-editing memory in a transformer", arXiv 2210.07229, algorithm 1).

    Args:
        model: left as it was.
        layer: where values are optimised; the highest of the editor's `layers`.
        editor: options and formula.

    Raises:
        EditError: `layers` does not end at `layer`, or `loss_layer` is not one of the model's.
    """

    def __init__(self, model: EditableModel, layer: int, editor: MassEditor) -> None:
        self.model, self.layer, self.editor = model, layer, editor
        self.name = type(editor).__module__.rpartition(".")[2]
        self.layers = _ascending(editor.layers, layer)
        self.sites = editor.sites_in(model)
        self.optimisation = editor.optimisation()
        _value_solver.resolve_loss_layer(model, layer, self.optimisation)  # refused before any work
        self.provenance = provenance.of(model)  # of the original model, before anything is applied
        self.contexts = _contexts.of(model, editor)
        others = len(self.contexts) - 1
        # The bare prompt's key counts half, the other contexts' share the rest.
        weights = [0.5] + [0.5 / others] * others if others else [1.0]
        self.weights = torch.tensor(weights, dtype=torch.float64)
        # of the original model, also later on
        moments = _moment_sources.of(model, self.layers, editor)
        self.preconditioners = {n: editor.preconditioner(moments[n]) for n in self.layers}

    def solve_joint(self, requests: Sequence[EditRequest]) -> WeightEdit:
        """One edit for all requests, which follow those of earlier calls."""
        values = self._values(requests)
        updates = self._updates(requests, values)
        for layer, update in updates.items():
            self.preconditioners[layer].remember(update.keys)
        return self._edit(requests, values, updates)

    def solve_independent(
        self, requests: Sequence[EditRequest], values: Sequence[Value] | None = None
    ) -> list[WeightEdit]:
        """One edit per request, independent of all others; `values` skips their optimisation."""
        values = values or self._values(requests)
        pairs = [([r], [v]) for r, v in zip(requests, values, strict=True)]
        return [self._edit(*pair, self._updates(*pair)) for pair in pairs]

    def update(
        self,
        layer: int,
        keys: Float64[Tensor, "request d_in"],
        residual: Float64[Tensor, "request d_out"],
    ) -> Update:
        """One layer's ΔW, by the editor's M and ρ."""
        ridge = self.editor.ridge(len(keys))
        return solve_update(layer, keys, residual, self.preconditioners[layer], ridge)

    def written(self, keys: Float[Tensor, "request context d_in"]) -> Float64[Tensor, " request"]:
        """k₀ᵀMk / (kᵀMk + ρ) for the bare prompt's key k₀ and the weighted mean k."""
        mean, bare = self._mean(keys), _exact(keys[:, 0])
        right = self.preconditioners[self.layer](mean)
        return (bare * right).sum(1) / ((mean * right).sum(1) + self.editor.ridge(1))

    def _mean(self, keys: Float[Tensor, "request context d_in"]) -> Float64[Tensor, "request d_in"]:
        return torch.einsum("c,rcd->rd", self.weights, _exact(keys))

    def _values(self, requests: Sequence[EditRequest]) -> list[Value]:
        return _value_solver.optimise(
            self.model, self.layer, requests, self.contexts, self.optimisation, sites=self.sites
        )

    def _updates(
        self, requests: Sequence[EditRequest], values: Sequence[Value]
    ) -> dict[int, Update]:
        """Every layer's update, each solved on the model that carries the ones before."""
        targets = _exact(torch.stack([value.initial + value.delta for value in values]))
        updates: dict[int, Update] = {}
        with ExitStack() as applied:
            for layer in self.layers:
                if len(self.layers) == 1:  # the optimisation has seen both already
                    keys = torch.stack([value.keys for value in values])
                    residual = _exact(torch.stack([value.delta for value in values]))
                else:
                    keys, current = _keys.read_contexts(
                        self.model, layer, (self.layer, self.sites[0]), requests, self.contexts
                    )
                    residual = targets - _exact(current)
                part = self.editor.part(len(self.layers) - len(updates))
                updates[layer] = self.update(layer, self._mean(keys), part * residual)
                if layer != self.layer:
                    fingerprint = {"model_fingerprint": self.model.fingerprint()}
                    change = WeightEdit({self._weight(layer): updates[layer].delta}, fingerprint)
                    applied.enter_context(self.model.edited(change))
        return updates

    def _weight(self, layer: int) -> str:
        return self.model.weight_name(layer, self.model.family.edited)

    def _edit(
        self,
        requests: Sequence[EditRequest],
        values: Sequence[Value],
        updates: Mapping[int, Update],
    ) -> WeightEdit:
        about = {
            "editor": self.name,
            "layer": self.layer,
            "layers": list(self.layers),
            "site": self.sites[0],
            "config": asdict(self.editor),
            "contexts": list(self.contexts),
            "requests": [asdict(request) for request in requests],
            "losses": [value.losses for value in values],
            "second_moment": {str(n): self.preconditioners[n].report for n in self.layers},
            "written": {str(n): update.written for n, update in updates.items()},
            "notes": self._notes(requests, values, updates),
        }
        if self.sites != self.editor.sites:
            about["site_why"] = (
                f"a norm follows the MLP in {self.model.family_name}: a change of the residual "
                "stream is not one of the down projection"
            )
        deltas = {self._weight(n): update.delta for n, update in updates.items()}
        return WeightEdit(deltas, self.provenance | about)

    def _notes(
        self,
        requests: Sequence[EditRequest],
        values: Sequence[Value],
        updates: Mapping[int, Update],
    ) -> list[str]:
        """What the user should know, first of each request, then of each layer."""
        notes = []
        for request, value, written in zip(
            requests, values, updates[self.layer].written, strict=True
        ):
            about, losses = _value_solver.notes(request, value, self.layer), value.losses
            if losses[-1] >= losses[0] and value.delta.any():
                about.append(_value_solver.unmoved(value, self.layer))
            if written < _LITTLE:
                about.append(
                    f"only {written:.1%} of its change is written at layer {self.layer}; "
                    f"{self.editor.damping} decides how much"
                )
            notes += [f"request {request.case_id!r}: {note}" for note in about]
        for layer, update in updates.items():
            notes += [f"layer {layer}: {note}" for note in self.preconditioners[layer].notes]
            if update.dependent:
                notes.append(
                    f"layer {layer}: the keys of the {len(requests)} requests are linearly "
                    "dependent; those that cannot be told apart share their changes"
                )
        return notes


def _ascending(layers: tuple[int, ...] | None, layer: int) -> tuple[int, ...]:
    """The layers to edit, lowest first."""
    ascending = tuple(sorted(layers or (layer,)))
    if ascending[-1] != layer or len({*ascending}) < len(ascending):
        raise EditError(
            f"layers {list(ascending)}: expected different ones, of which the highest is the layer "
            f"asked for, {layer}"
        )
    return ascending


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)
