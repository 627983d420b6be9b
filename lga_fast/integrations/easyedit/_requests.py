"""Arguments of EasyEdit's editors as its request dicts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any

from lga_fast.errors import DataError


def prepare(
    prompts: str | list[str],
    target_new: str | list[str],
    ground_truth: str | list[str] | None,
    locality_inputs: Mapping[str, Any] | None,
    portability_inputs: Mapping[str, Any] | None,
    **columns: str | list[str] | None,
) -> list[dict[str, Any]]:
    """One dict for each prompt; a text instead of a list is that of a single prompt.

    Args:
        prompts: what is to be answered.
        target_new: the new answers.
        ground_truth: the old answers.
        locality_inputs: by group, `prompt` and `ground_truth`, each a list by request.
        portability_inputs: the same.
        columns: more columns by the name they have in a request.

    Raises:
        DataError: a column has not one value for each prompt.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    count = len(prompts)
    if loc_prompts := columns.get("loc_prompt"):  # EasyEdit repeats them
        listed = [loc_prompts] if isinstance(loc_prompts, str) else loc_prompts
        columns["loc_prompt"] = list(islice(cycle(listed), count))
    groups = {
        kind: {
            group: {
                name: _column(f"{kind}_inputs.{group}.{name}", inputs[name], count)
                for name in ("prompt", "ground_truth")
            }
            for group, inputs in (given or {}).items()
        }
        for kind, given in (("portability", portability_inputs), ("locality", locality_inputs))
    }
    own = {"prompt": prompts, "target_new": _column("target_new", target_new, count)}
    own["ground_truth"] = _column("ground_truth", ground_truth, count)
    own |= {name: _column(name, c, count) for name, c in columns.items() if c is not None}
    return [
        {name: column[i] for name, column in own.items()}
        | {
            kind: {
                group: {name: column[i] for name, column in pair.items()}
                for group, pair in of_kind.items()
                if pair["prompt"][i] is not None
            }
            for kind, of_kind in groups.items()
        }
        for i in range(count)
    ]


def _column(name: str, values: Any, count: int) -> list[Any]:
    if values is None:
        return [None] * count
    values = [values] if isinstance(values, str) else list(values)
    if len(values) != count:
        raise DataError(
            f"{name}: expected {count} values, one for each prompt, got {len(values)}. Write None "
            "where a request has none."
        )
    return values
