"""Selectors: each member chooses the layer to edit; the folder is the registry.

- `lga`, `lga_new`, `salem`, `reach`: aggregate one scoring pass (`_gradient_selector`, `_tukey`)
- `cma`: causal tracing (`_tracing`)
- `brute_force`, `race`: edit facts and compare (`lga_fast.sweep`)
- `fixed`, `random_layer`: baselines
- `_selector`: the base of all, what studies ask of it, and what every ranking warns of
- `_cost`: what a selection will hold, read and take; `_measured_facts`: what studies share
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

from lga_fast import registry
from lga_fast.datasets import easyedit_requests
from lga_fast.models import EditableModel, check_loaded
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors._cost import estimate_selection_cost
from lga_fast.selectors._gradient_selector import GradientSelector, rank_together, shared_pass
from lga_fast.selectors._measured_facts import Choice, MeasuredFacts
from lga_fast.selectors._selector import DEFAULT, TO_EDIT, LayerSelector

__all__ = [
    "DEFAULT",
    "TO_EDIT",
    "Choice",
    "GradientSelector",
    "LayerSelector",
    "MeasuredFacts",
    "estimate_selection_cost",
    "select_layer",
    "shared_pass",
]


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
    check_loaded(model)
    names = [selector] if isinstance(selector, str) else selector
    selectors = registry.configured_together(__name__, names, "Selector", options)
    edits = easyedit_requests(edits)
    for one in selectors.values():
        one.check(model, edits)
    scored = {n: one for n, one in selectors.items() if isinstance(one, GradientSelector)}
    # The scoring pass last: it may take hours, and others may refuse the requests at once.
    rankings = {n: one.rank(model, edits) for n, one in selectors.items() if n not in scored}
    rankings |= rank_together(model, edits, scored) if scored else {}
    case_ids = tuple(request.case_id for request in edits)
    rankings = {
        name: replace(ranking, case_ids=case_ids if selectors[name].rests_on == "facts" else ())
        for name, ranking in rankings.items()
    }
    if isinstance(selector, str):
        return rankings[selector]
    return {name: rankings[name] for name in selectors}
