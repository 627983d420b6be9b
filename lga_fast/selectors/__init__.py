"""Selectors: each member chooses the layer to edit; the folder is the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, overload

from lga_fast import distributed, registry
from lga_fast.datasets import easyedit_requests
from lga_fast.errors import NothingToScore, UnknownName
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors._gradient_selector import Scored, pass_options, rank_together

if TYPE_CHECKING:
    from lga_fast.scoring import CostEstimate


class LayerSelector(Protocol):
    """What every member's `Selector` does; its dataclass fields are its options."""

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Choose a layer for these requests; the model is left as it was."""
        ...


@overload
def select_layer(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    selector: str = "lga",
    **options: Any,
) -> LayerRanking: ...


@overload
def select_layer(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    selector: list[str] | tuple[str, ...],
    **options: Any,
) -> dict[str, LayerRanking]: ...


def select_layer(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    selector: str | list[str] | tuple[str, ...] = "lga",
    **options: Any,
) -> LayerRanking | dict[str, LayerRanking]:
    """Choose the layer to edit.

    Args:
        model: see `lga_fast.load`.
        edits: the proxy facts: requests, or dicts in EasyEdit's form.
        selector: a member of `lga_fast.selectors`; or several, and those that aggregate gradients
            (lga, lga_new, salem) share one scoring pass.
        options: the fields of that member's `Selector`; of several members, each takes its own.

    Returns:
        The ranking, or a dict of rankings by selector where several were named.

    Raises:
        UnknownName: no such selector, or it has no such option.

    Example:
        >>> ranking = select_layer(model, edits, tukey=1.0, scope="mlp_all")
        >>> int(ranking)
        3
        >>> several = select_layer(model, edits, ["lga", "salem"])
        >>> int(several["salem"])
        1
    """
    chosen = _configured([selector] if isinstance(selector, str) else selector, options)
    scored = {name: each for name, each in chosen.items() if isinstance(each, Scored)}
    # The scoring pass last: it may take hours, and others may refuse the model at once.
    rankings = {n: each.rank(model, edits) for n, each in chosen.items() if n not in scored}
    rankings |= rank_together(model, edits, scored) if scored else {}
    if isinstance(selector, str):
        return rankings[selector]
    return {name: rankings[name] for name in chosen}


def estimate_selection_cost(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    selector: str | list[str] | tuple[str, ...] = "lga",
    **options: Any,
) -> CostEstimate | None:
    """What the scoring pass of `select_layer` with these arguments will cost; None: it has none.

    What a selector does beside scoring, such as the edits of lga_verified, is not in it. Of
    several ranks it is this one's share; None also where that is empty.

    Raises:
        UnknownName: no such selector, or it has no such option.
        ScoringError: nothing is left to score, or memory does not suffice.
    """
    chosen = _configured([selector] if isinstance(selector, str) else selector, options)
    scores = [each.scored() if hasattr(each, "scored") else each for each in chosen.values()]
    scored = [each for each in scores if isinstance(each, Scored)]
    if not scored:
        return None
    from lga_fast.scoring import data_parallel, estimate_cost

    requests = data_parallel.shared(model, easyedit_requests(edits))
    try:
        return estimate_cost(model, requests, **pass_options(scored))
    except NothingToScore:
        if distributed.current().size == 1:
            raise
        return None


def _configured(names: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    """Selectors by name, each with the options that it has."""
    if len(names) == 1:
        return {names[0]: registry.configured(__name__, names[0], "Selector", options)}
    fields = {
        name: set(registry.member(__name__, name).Selector.__dataclass_fields__) for name in names
    }
    if unknown := set(options).difference(*fields.values()):
        raise UnknownName(
            f"none of the selectors {', '.join(names)} has an option {', '.join(sorted(unknown))}. "
            f"They have: {', '.join(sorted(set().union(*fields.values())))}."
        )
    return {
        name: registry.configured(
            __name__, name, "Selector", {k: v for k, v in options.items() if k in fields[name]}
        )
        for name in names
    }
