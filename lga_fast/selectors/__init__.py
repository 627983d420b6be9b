"""Selectors: each member chooses the layer to edit; the folder is the registry.

- `lga`, `lga_new`, `salem`: aggregate one scoring pass (`_gradient_selector`, `_fenced`, `_tukey`)
- `cma`: causal tracing (`_tracing`)
- `brute_force`, `lga_verified`: edit facts and compare (`lga_fast.sweep`)
- `fixed`, `random_layer`: baselines
- `_selector`: the base of all, what studies ask of it, and what every ranking warns of
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, overload

from lga_fast import distributed, registry
from lga_fast.datasets import easyedit_requests
from lga_fast.errors import NothingToScore, UnknownName
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors._gradient_selector import GradientSelector, rank_together, shared_pass
from lga_fast.selectors._selector import Choice, LayerSelector, MeasuredFacts

if TYPE_CHECKING:
    from lga_fast.scoring import CostEstimate

__all__ = [
    "DEFAULT",
    "Choice",
    "GradientSelector",
    "LayerSelector",
    "MeasuredFacts",
    "configured",
    "estimate_selection_cost",
    "select_layer",
    "shared_pass",
]

DEFAULT: str = "lga"


@overload
def select_layer(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    selector: str = DEFAULT,
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
    selector: str | list[str] | tuple[str, ...] = DEFAULT,
    **options: Any,
) -> LayerRanking | dict[str, LayerRanking]:
    """Choose the layer to edit.

    Args:
        model: see `lga_fast.load`.
        edits: the proxy facts: requests, or dicts in EasyEdit's form.
        selector: a member of `lga_fast.selectors`, or several; those that aggregate gradients
            (lga, lga_new, salem) share one scoring pass.
        options: fields of that member's `Selector`; of several members, each takes its own. They
            are checked before any work.

    Returns:
        The ranking, or for several selectors a dict of rankings by name.

    Raises:
        UnknownName: no such selector, or it has no such option.
        OptionError: an option has the wrong type or is out of its limits.
        DataError, EditError: the config of a selector that edits cannot be followed.
        ScoringError: an option does not fit model or requests, or nothing can be ranked.

    Example:
        >>> ranking = select_layer(model, edits, tukey=1.0, scope="mlp_all")
        >>> int(ranking)
        3
        >>> several = select_layer(model, edits, ["lga", "salem"])
        >>> int(several["salem"])
        1
    """
    selectors = configured([selector] if isinstance(selector, str) else selector, options)
    edits = easyedit_requests(edits)
    for one in selectors.values():
        one.check(model, edits)
    scored = {n: one for n, one in selectors.items() if isinstance(one, GradientSelector)}
    # The scoring pass last: it may take hours, and others may refuse the requests at once.
    rankings = {n: one.rank(model, edits) for n, one in selectors.items() if n not in scored}
    rankings |= rank_together(model, edits, scored) if scored else {}
    if isinstance(selector, str):
        return rankings[selector]
    return {name: rankings[name] for name in selectors}


def estimate_selection_cost(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    selector: str | list[str] | tuple[str, ...] = DEFAULT,
    **options: Any,
) -> CostEstimate | None:
    """Cost of the scoring pass of `select_layer` with these arguments; None: it has none.

    Other work, such as the edits of lga_verified, is not included. With several ranks it is the
    cost of this one's share; None also where that is empty.

    Raises:
        UnknownName: no such selector, or it has no such option.
        ScoringError: nothing is left to score, or memory does not suffice.
    """
    selectors = configured([selector] if isinstance(selector, str) else selector, options)
    scoring = shared_pass(selectors.values())
    if scoring is None:
        return None
    from lga_fast.scoring import data_parallel, estimate_cost

    requests = data_parallel.shared(model, easyedit_requests(edits))
    try:
        return estimate_cost(model, requests, **vars(scoring), resume=options.get("resume"))
    except NothingToScore:
        if distributed.current().size == 1:
            raise
        return None


def configured(names: Sequence[str], options: dict[str, Any]) -> dict[str, LayerSelector]:
    """Selectors by name, each with the options that it has; errors as of `select_layer`."""
    if len(names) == 1:
        return {names[0]: registry.configured(__name__, names[0], "Selector", options)}
    known = {
        name: {field.name for field in fields(registry.member(__name__, name).Selector)}
        for name in names
    }
    if unknown := set(options).difference(*known.values()):
        raise UnknownName(
            f"none of the selectors {', '.join(names)} has an option {', '.join(sorted(unknown))}. "
            f"They have: {', '.join(sorted(set().union(*known.values())))}."
        )
    return {
        name: registry.configured(
            __name__, name, "Selector", {k: v for k, v in options.items() if k in known[name]}
        )
        for name in names
    }
