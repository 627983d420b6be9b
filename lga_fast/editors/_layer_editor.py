"""What every editor is: options of the value's optimisation, and a solver per model and layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from lga_fast.datasets import easyedit_requests
from lga_fast.editors._value_problem import Optimisation, Value
from lga_fast.errors import OptionError
from lga_fast.forward.clean_run import Site
from lga_fast.models import EditableModel
from lga_fast.options import SEEDS, Options, option
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit

# Contexts that are sampled begin with these words (EasyEdit's for ROME).
SEED_WORDS = ("The", "Therefore", "Because", "I", "You")


@runtime_checkable
class Solver(Protocol):
    """An editor prepared for one layer of one model.

    What its edits share (contexts, second moments, the fingerprint in their provenance) belongs to
    the model at the time of `prepare`; values are optimised on the model at the time of the call.
    """

    model: EditableModel
    contexts: tuple[str, ...]
    optimisation: Optimisation
    sites: tuple[Site, ...]

    def written(self, keys: Float[Tensor, "request context d_in"]) -> Float[Tensor, " request"]:
        """The part of a value's δ by which the output for the bare prompt's key would change.

        Keys are read behind each of the contexts, of which the first is empty. Each request is as
        if it were edited alone.
        """
        ...

    def solve_joint(self, requests: Sequence[EditRequest]) -> WeightEdit:
        """One edit for all requests, which follow those of earlier calls."""
        ...

    def solve_independent(
        self, requests: Sequence[EditRequest], values: Sequence[Value] | None = None
    ) -> list[WeightEdit]:
        """One edit per request, independent of all others; `values` skips their optimisation."""
        ...


@dataclass(frozen=True)
class LayerEditor(Options, ABC):
    """Base of every member's `Editor`; its fields are the editor's options."""

    window: ClassVar[int] = 1  # layers that EasyEdit's configs of the method edit together

    steps: int = option(
        25, "Forward passes of the optimisation; some families have another default.", min=1
    )
    weight_decay: float = option(
        1e-3, "Weight of ‖δ‖ in the loss; some families have another default.", min=0
    )
    lr: float = option(0.5, "Adam's learning rate.", above=0)
    kl_factor: float = option(0.0625, "Weight of the KL term.", min=0)
    clamp: float = option(4.0, "Largest ‖δ‖ in units of ‖v_init‖.", above=0)
    corpus: str | None = option(
        None, "Text file or folder to measure second moments on; default: the atlas's.", path=True
    )
    stats_dir: str | None = option(
        None, "Folder of second moments that EasyEdit or ROME's code has stored.", path=True
    )
    mom2_tokens: int | None = option(
        None, "Tokens of that text to read; default: 10 times d_in.", min=1
    )
    contexts: tuple[str, ...] | None = option(
        None, "Texts put before the prompt, or around it with {} in its place; default: sampled."
    )
    seed: int = option(42, "Seed of the contexts.", **SEEDS)
    bare_value: bool = option(
        False,
        "Optimise on the bare prompt alone, to a loss of 0.2 instead of 0.05; the key is still of "
        "all contexts. Much cheaper.",
    )

    # δ is added to each, the first one's is written.
    sites: ClassVar[tuple[Site, ...]] = ("mlp",)
    context_lengths: ClassVar[tuple[int, ...]] = (5, 10)  # in tokens, where contexts are sampled
    contexts_per_seed: ClassVar[int] = 2  # of each length and seed word

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        if twice := [context for context in self.contexts or () if context.count("{}") > 1]:
            raise OptionError(f"contexts: expected one {{}} for the prompt, got {twice[0]!r}")

    @property
    def given_contexts(self) -> tuple[str, ...]:
        """The option's contexts without the bare prompt, which every editor adds."""
        return tuple(context for context in self.contexts or () if context not in ("", "{}"))

    @property
    def rows(self) -> int:
        """What its value is optimised on: the bare prompt, one row for each context, the KL's."""
        if self.bare_value:
            return 2
        if self.contexts is None:
            return 2 + len(self.context_lengths) * self.contexts_per_seed * len(SEED_WORDS)
        return 2 + len(self.given_contexts)

    def cheap(self) -> LayerEditor:
        """The same with values for the bare prompt: several times cheaper, for comparing layers."""
        return replace(self, bare_value=True)

    @property
    def times_cheaper(self) -> float:
        """How many times cheaper its cheap edits are.

        An edit costs about as much as its rows and one more for measuring: 3 of 23 for ROME's 21
        contexts, where 0.13 of the time was measured on the atlas models.
        """
        return (self.rows + 1) / (self.cheap().rows + 1)

    def sites_in(self, model: EditableModel) -> tuple[Site, ...]:
        """`sites`; but where a norm follows the MLP, only the MLP's.

        There no change of the down projection moves the residual stream by a given δ.
        """
        return ("mlp",) if model.family.post_mlp_norm and "block" in self.sites else self.sites

    def measure(self, model: EditableModel, layers: Sequence[int]) -> None:
        """Measure and store, in one pass, what `prepare` would measure layer by layer."""

    @abstractmethod
    def prepare(self, model: EditableModel, layer: int) -> Solver:
        """Compute what edits share (contexts, second moments) once, before any request is known."""

    def solve(
        self, model: EditableModel, requests: Sequence[EditRequest], layer: int
    ) -> WeightEdit:
        """The change of weights that makes the model answer all requests; the model is unchanged.

        Raises:
            EditError: a loss or an update is not finite, or a subject's last token has no place.
        """
        return self.prepare(model, layer).solve_joint(easyedit_requests(requests))

    def solve_each(
        self, model: EditableModel, requests: Sequence[EditRequest], layer: int
    ) -> list[WeightEdit]:
        """What `solve` gives for each request alone; their optimisations share forwards."""
        return self.prepare(model, layer).solve_independent(easyedit_requests(requests))

    def optimisation(self) -> Optimisation:
        """Settings of the values' optimisation."""
        return Optimisation(
            steps=self.steps,
            weight_decay=self.weight_decay,
            lr=self.lr,
            kl_factor=self.kl_factor,
            clamp=self.clamp,
            # From 0.2 to 0.05 takes a third of the steps, and layers compare as they did.
            stop_loss=0.2 if self.bare_value else Optimisation.stop_loss,
            bare_value=self.bare_value,
        )
