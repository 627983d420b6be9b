"""What a selection will hold and read, before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lga_fast import distributed, registry
from lga_fast.datasets import easyedit_requests
from lga_fast.errors import NothingToScore
from lga_fast.models import EditableModel, check_loaded
from lga_fast.records import EditRequest
from lga_fast.selectors._gradient_selector import shared_pass
from lga_fast.selectors._selector import DEFAULT

if TYPE_CHECKING:
    from lga_fast.scoring import CostEstimate


def estimate_selection_cost(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    selector: str | list[str] | tuple[str, ...] = DEFAULT,
    **options: Any,
) -> CostEstimate | None:
    """Cost of the scoring pass of `select_layer` with these arguments; None: it has none.

    Other work, such as edits, is not included. With several ranks it is the
    cost of this one's share; None also where that is empty.

    Raises:
        UnknownName: no such selector, or it has no such option.
        ScoringError: nothing is left to score, or memory does not suffice.
    """
    check_loaded(model)
    names = [selector] if isinstance(selector, str) else selector
    selectors = registry.configured_together("lga_fast.selectors", names, "Selector", options)
    scoring = shared_pass(selectors.values())
    if scoring is None:
        return None
    from lga_fast.scoring import data_parallel, estimate_cost

    requests = data_parallel.shared(model, easyedit_requests(edits))
    try:
        return estimate_cost(model, requests, scoring, options.get("resume"))
    except NothingToScore:
        if distributed.current().size == 1:
            raise
        return None
