"""Fields and interface of the mass editors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from lga_fast.editors._mass import Mass
from lga_fast.editors._moments import Moments
from lga_fast.editors._preconditioner import Directions
from lga_fast.editors._value_solver import Optimisation
from lga_fast.forward.clean_run import Site
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit


@dataclass(frozen=True)
class Editor(ABC):
    """Fields and interface of a mass editor; a member adds its formula."""

    sites: ClassVar[tuple[Site, ...]] = ("block",)  # where δ is added; the first one's is written
    damping: ClassVar[str]  # the field that decides how much of a change is written

    steps: int = field(
        default=25,
        metadata={"help": "Forwards; another default for some families.", "min": 1},
    )
    weight_decay: float = field(
        default=1e-3,
        metadata={"help": "Weight of ‖δ‖; another default for some families.", "min": 0},
    )
    lr: float = field(default=0.5, metadata={"help": "Adam's learning rate.", "above": 0})
    kl_factor: float = field(default=0.0625, metadata={"help": "Weight of the KL term.", "min": 0})
    clamp: float = field(
        default=4.0, metadata={"help": "Radius of δ in units of ‖v_init‖.", "above": 0}
    )
    loss_layer: int | None = field(
        default=None,
        metadata={"help": "Layer after which the answer is read; default: the last.", "min": 0},
    )
    layers: tuple[int, ...] | None = field(
        default=None,
        metadata={"help": "Layers to spread the change over; default: only the one.", "min": 0},
    )
    corpus: str | None = field(
        default=None, metadata={"help": "Text of the second moment; default: the atlas's."}
    )
    mom2_tokens: int | None = field(
        default=None,
        metadata={"help": "Tokens of that text to read; default: 10 times d_in.", "min": 1},
    )
    contexts: tuple[str, ...] | None = field(
        default=None, metadata={"help": "Texts before the prompt; default: sampled by the model."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of the contexts."})

    @abstractmethod
    def directions(self, moment: Moments) -> Directions:
        """The method's M of a layer."""

    @abstractmethod
    def ridge(self, requests: int) -> float:
        """The method's ρ for so many requests."""

    def part(self, left: int) -> float:
        """What a layer takes of the residual when it and those after it are `left` layers."""
        return 1 / left

    def optimisation(self) -> Optimisation:
        """Numbers of the values' optimisation."""
        return Optimisation(
            steps=self.steps,
            weight_decay=self.weight_decay,
            lr=self.lr,
            kl_factor=self.kl_factor,
            clamp=self.clamp,
            loss_layer=self.loss_layer,
        )

    def prepare(self, model: EditableModel, layer: int) -> Mass:
        """Contexts and second moments of the model as it is."""
        return Mass(model, layer, self)

    def solve(
        self, model: EditableModel, requests: Sequence[EditRequest], layer: int
    ) -> WeightEdit:
        """One update per layer for all requests together, of their number's rank."""
        return self.prepare(model, layer).solve_joint(requests)

    def solve_each(
        self, model: EditableModel, requests: Sequence[EditRequest], layer: int
    ) -> list[WeightEdit]:
        """One edit for each request, their values found together on the model as it is."""
        return self.prepare(model, layer).solve_independent(requests)
