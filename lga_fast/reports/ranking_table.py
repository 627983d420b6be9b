"""A ranking on a terminal: one bar per layer, fences, stability, and notes."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lga_fast import provenance
from lga_fast.errors import named_layers
from lga_fast.records import LayerRanking

_HALF = 16  # columns on either side of zero


def show(ranking: LayerRanking, console: Console) -> None:
    """Print the ranking."""
    notes = [Text(f"• {note}") for note in ranking.notes]
    head, legend = "\n".join(header(ranking)), "\n".join(["", *remarks(ranking)])
    parts: list[RenderableType] = [Text(f"{head}\n", style="dim"), _chart(ranking)]
    parts += [Text(legend, style="dim"), *notes]
    title = f"{ranking.selector}: layer {ranking.layer} of {ranking.provenance['model']}"
    console.print(Panel(Group(*parts), title=Text(title, style="bold"), expand=False))


def choice(ranking: dict[str, Any]) -> str:
    """What chose an edit's layer, and on what; for a ranking as a dict."""
    data = ranking["provenance"]["data"]
    file = f" ({data['file']})" if data["file"] else ""
    several = ranking["requests"] > 1 and ranking["stability"]
    stable = f" ({several[ranking['layer']]:.0%} of resamples agree)" if several else ""
    return (
        f"layer {ranking['layer']} chosen by {ranking['selector']} on {ranking['requests']} proxy "
        f"facts from {data['name']}{file}{stable}"
    )


def header(ranking: LayerRanking) -> list[str]:
    """On what it was made, and how; one sentence or a part of one each."""
    about = ranking.provenance
    known = f", {ranking.known} of which the model already knows" if ranking.known else ""
    lines = [f"{ranking.requests} proxy facts{known}"]
    if data := about.get("data"):
        lines[0] += f" from {data['name']}" + (f" ({data['file']})" if data["file"] else "")
    if ranking.dropped:
        lines.append(f"{len(ranking.dropped)} dropped: {ranking.dropped[0].reason}")
    if ranking.confidence is not None:
        lines.append(
            f"As far as cheap edits tell, layer {ranking.layer} is within 0.05 of the best with "
            f"probability {ranking.confidence:.0%}"
        )
    lines.append(f"{provenance.arithmetic(about)}, kernels: {about['kernel']}")
    if "seconds_scoring" in about:
        seconds = f"{about['seconds_scoring']:.2f} s for the scores{_shared(ranking)}"
        if about.get("old"):
            seconds = f"{about['seconds_old_answers']:.2f} s for the old answers, {seconds}"
        lines.append(f"{seconds}; peak memory {about['peak_bytes'] / 2**20:.0f} MiB")
    return lines


def _shared(ranking: LayerRanking) -> str:
    others = [n for n in ranking.provenance.get("pass_shared_by", ()) if n != ranking.selector]
    return f" (one pass with {', '.join(others)})" if others else ""


def _chart(ranking: LayerRanking) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for name, side in [("layer", "right"), ("score", "right"), ("", "left")]:
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    table.add_column("stability" if ranking.stability else "", justify="right")
    table.add_column("")
    full = max(abs(ranking.scores[layer]) for layer in ranking.order) or 1.0
    left = min(_HALF, math.ceil(max(0.0, -min(ranking.scores) / full) * _HALF))
    for layer, score in enumerate(ranking.scores):
        share = ranking.stability[layer] if ranking.stability else 0.0
        chosen, out = layer == ranking.layer, layer in ranking.excluded
        style = "bold green" if chosen else "dim" if out else ""
        table.add_row(
            str(layer),
            score_text(ranking, layer),
            _bar(score / full, left),
            f"{share:.0%}" if share else "",
            "◀ golden layer" if chosen else "excluded" if out else "",
            style=style,
        )
    return table


def score_text(ranking: LayerRanking, layer: int) -> str:
    """A layer's score; of an excluded one that has none, which is stored as 0, a dash."""
    score = ranking.scores[layer]
    return f"{score:.4g}" if score or layer not in ranking.excluded else "–"


def _bar(part: float, left: int = _HALF) -> str:
    """A bar from zero to `part` of full length, cut with an arrow if longer than that.

    There are `left` columns to the left of zero.
    """
    length = min(round(abs(part) * _HALF), _HALF)
    cut = abs(part) > 1 + 1e-9
    if part < 0:
        return f"{('◂' if cut else '') + '█' * (length - cut):>{left}}│{'':{_HALF}}"
    return f"{'':{left}}│{'█' * (length - cut) + ('▸' if cut else ''):<{_HALF}}"


def remarks(ranking: LayerRanking) -> list[str]:
    """How to read the scores, and what else they might have said."""
    lines = [f"Score: {ranking.score_label}"]
    if ranking.fences:
        low, high = ranking.fences
        text = f"Tukey's fences {low:.4g} … {high:.4g}"
        if ranking.excluded:
            text += f"; excluded: {named_layers(ranking.excluded)}"
        if ranking.raw_argmax not in (None, ranking.layer):
            text += f"; without fences layer {ranking.raw_argmax}"
        lines.append(text)
    if len(set(ranking.argmax_by_scope.values())) > 1:
        scopes = ", ".join(f"{scope} {layer}" for scope, layer in ranking.argmax_by_scope.items())
        lines.append(f"The choice by scope: {scopes}")
    if ranking.stability:
        lines.append("Stability: share of bootstrap resamples of the facts that choose this layer")
    return lines
