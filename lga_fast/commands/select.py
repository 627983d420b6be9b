"""Choose the layer to edit, from a few proxy facts and without any edit.

Without --model and --data it runs on the embedded atlas.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from lga_fast import distributed, progress, registry, select_layer
from lga_fast.commands import _inputs, _options
from lga_fast.loading import Weights
from lga_fast.records import LayerRanking
from lga_fast.reports import json as json_report
from lga_fast.reports import plot, table
from lga_fast.selectors import estimate_selection_cost
from lga_fast.selectors._gradient_selector import Scored

_SELECTORS = "lga_fast.selectors"


def command() -> click.Command:
    """The command; its last options are the fields of the selectors."""
    made = click.Command("select", callback=_run, help=__doc__)
    made.params += [
        *_options.model(),
        _options.weights(),
        _options.data(),
        _options.proxy(),
        _options.seed(),
        click.Option(
            ["--selector"],
            type=_options.Names(_SELECTORS),
            default="lga",
            show_default=True,
            help="How to choose the layer; several with commas between, e.g. lga,lga_new,salem, "
            "which share one scoring pass.",
        ),
        click.Option(["--plan"], is_flag=True, help="Print the bytes to hold and read, then exit."),
        _options.as_json(),
        _options.folder(
            "--out",
            "Folder for ranking.json, layers.png and layers.svg; of several selectors "
            "ranking-NAME.json and so on.",
        ),
        *_options.fields(_SELECTORS, "Selector", taken=["seed"]),
    ]
    return made


def _run(
    source: str,
    data: str,
    proxy: int,
    seed: int,
    selector: list[str],
    weights: Weights,
    plan: bool,
    as_json: bool,
    out: Path | None,
    device: str | None,
    dtype: str | None,
    memory_budget: str | None,
    **fields: Any,
) -> None:
    options = _options.given(fields)
    members = [registry.member(_SELECTORS, name).Selector for name in selector]
    if any("seed" in member.__dataclass_fields__ for member in members):
        options["seed"] = seed
    facts = _inputs.proxy_facts(_inputs.edits(data), proxy, seed)
    model = _inputs.model(source, device, dtype, memory_budget, weights)
    ranks = distributed.current()
    if model.placement and ranks.is_rank_zero:
        click.echo(model.placement, err=True)
    unsaid = model.streamed and not progress.shown()  # else scoring says it
    if plan or (unsaid and ranks.is_rank_zero):
        cost = estimate_selection_cost(model, facts, selector, **options)
        if cost and ranks.size > 1:
            click.echo(f"of {ranks.size} processes, the first one's share:", err=not plan)
        if cost or plan:
            whose = f" for the first of {ranks.size} processes" if ranks.size > 1 else ""
            none = f"There is no scoring pass to plan{whose}."
            click.echo(str(cost or none), err=not plan)
        also = [n for n, m in zip(selector, members, strict=True) if not issubclass(m, Scored)]
        if cost and also:
            click.echo(
                f"not in this plan: what {', '.join(also)} does beside scoring", err=not plan
            )
        if plan:
            return
    rankings = select_layer(model, facts, selector, **options)
    if not ranks.is_rank_zero:
        return
    written = _write(rankings, out) if out else []
    if as_json:
        plain = [dataclasses.asdict(ranking) for ranking in rankings.values()]
        result = plain[0] if len(plain) == 1 else dict(zip(rankings, plain, strict=True))
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    for ranking in rankings.values():
        table.show(ranking, Console())
    if out:
        click.echo(f"Written to {out}: {', '.join(written)}")


def _write(rankings: Mapping[str, LayerRanking], out: Path) -> list[str]:
    """Write every ranking and its figures into `out`; the names of the files."""
    out.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    for selector, ranking in rankings.items():
        which = f"-{selector}" if len(rankings) > 1 else ""
        files = [f"ranking{which}.json", f"layers{which}.png", f"layers{which}.svg"]
        json_report.write(ranking, out / files[0])
        plot.write(ranking, *(out / file for file in files[1:]))
        names += files
    return names
