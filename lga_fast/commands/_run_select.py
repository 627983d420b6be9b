"""The work of `lga-fast select`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from lga_fast import distributed, extras, progress, registry, selectors
from lga_fast.commands import _field_options, _inputs, _recipe
from lga_fast.datasets import FactToken
from lga_fast.files import write_atomic
from lga_fast.records import LayerRanking
from lga_fast.reports import pages, plot, ranking_table
from lga_fast.scoring import CostEstimate

_SELECTORS = "lga_fast.selectors"


def run(
    data: str,
    fact_token: FactToken,
    proxy: int,
    seed: int,
    selector: list[str],
    plan: bool,
    as_json: bool,
    out: Path | None,
    html: Path | None,
    **fields: Any,
) -> None:
    """Choose a layer with each selector, print the rankings and write them to `out`."""
    how = _inputs.take_model(fields)
    options = _field_options.specified(fields)
    members = {name: registry.member(_SELECTORS, name).Selector for name in selector}
    if any("seed" in member.__dataclass_fields__ for member in members.values()):
        options["seed"] = seed
    # So that bad values are refused before the work.
    registry.configured_together(_SELECTORS, selector, "Selector", options)
    _inputs.check_folders(out, options.get("resume"))
    _inputs.check_page(html)
    facts = _inputs.draw_proxy(_inputs.load_requests(data, fact_token), proxy, seed)
    model = _inputs.load_model(**how)
    rank_zero = distributed.current().is_rank_zero
    if rank_zero and (plan or (model.streamed and not progress.shown())):
        cost = selectors.estimate_selection_cost(model, facts, selector, **options)
        if plan:
            aggregates = selectors.GradientSelector  # and does nothing else
            beyond = [name for name, one in members.items() if not issubclass(one, aggregates)]
            click.echo(_cost_text(cost, beyond))
        elif cost:  # scoring itself says so only beside a progress bar
            progress.log(_cost_text(cost, ()))
    if plan:
        return
    rankings = selectors.select_layer(model, facts, selector, **options)
    if rank_zero:
        _report(rankings, as_json, out, html)


def _cost_text(cost: CostEstimate | None, beyond: Sequence[str]) -> str:
    """What scoring will cost; `beyond`: selectors that also do other work."""
    processes = distributed.current().size
    whose = f" for the first of {processes} processes" if processes > 1 else ""
    lines = [f"Plan{whose}:"] if cost and whose else []
    lines.append(str(cost or f"There is no scoring pass to plan{whose}."))
    if cost and beyond:
        lines.append(f"not included: what {', '.join(beyond)} does besides scoring")
    return "\n".join(lines)


def _report(
    rankings: Mapping[str, LayerRanking], as_json: bool, out: Path | None, html: Path | None
) -> None:
    written = [_write(rankings, out)] if out else []
    if html:
        write_atomic(html, pages.ranking_page(rankings, _recipe.command_line()))
        written.append(f"Page: {html}")
    if as_json:
        plain = {name: dataclasses.asdict(ranking) for name, ranking in rankings.items()}
        result = plain if len(plain) > 1 else next(iter(plain.values()))
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    for ranking in rankings.values():
        ranking_table.show(ranking, Console(markup=False))
    for line in written:
        click.echo(line)


def _write(rankings: Mapping[str, LayerRanking], out: Path) -> str:
    """Write every ranking, and its figures if matplotlib is installed; returns what was written."""
    out.mkdir(parents=True, exist_ok=True)
    figures = not extras.missing(["matplotlib"])
    names: list[str] = []
    for selector, ranking in rankings.items():
        which = f"-{selector}" if len(rankings) > 1 else ""
        names.append(f"ranking{which}.json")
        write_atomic(out / names[-1], ranking.to_json() + "\n")
        if figures:
            drawn = [f"layers{which}.png", f"layers{which}.svg"]
            plot.write(ranking, *(out / name for name in drawn))
            names += drawn
    hint = "" if figures else "\nFor figures: pip install 'lga-fast[plot]'"
    return f"Written to {out}: {', '.join(names)}{hint}"
