"""Tables of what each selector's layer loses, from results/layer_choice.json."""

from __future__ import annotations

from statistics import mean
from typing import Any

from lga_fast.selectors.race import TOLERANCE
from lga_fast.studies import _paper

try:
    from benchmarks._markdown import results, table
except ImportError:
    from _markdown import results, table

_README = ("reach", "race", "brute_force", "salem", "lga", "cma", "layer 0", "layer 5")
_SCORES = ("rewrite", "combined")
_CALIBRATED = ("race", "reach", "lga")
_ELSE = 12  # readings of LGA that RESULTS.md shows, apart from the worst


def summary() -> str:
    """README's table: mean and worst regret over draws of the proxy facts, by pair."""
    pairs = results("layer_choice")["pairs"]
    rows = [_row(name, pairs) for name in _README]
    return (
        table(["selector", *(pair.partition("_")[0] for pair in pairs)], rows) + f"\n{_papers()}\n"
    )


def readings() -> str:
    """RESULTS.md's: all selectors, and the readings of LGA from the least mean regret on."""
    found = results("layer_choice")
    pairs = found["pairs"]
    names = list(next(iter(pairs.values()))["selectors"])
    lga = [name for name in names if name.startswith("lga: ")]
    alike: dict[str, list[str]] = {}  # readings that choose the same layers, by those
    for name in sorted(lga, key=lambda n: _mean(n, pairs)):
        layers = [pair["selectors"][name]["layers"] for pair in pairs.values()]
        alike.setdefault(str(layers), []).append(name)
    groups = list(alike.values())
    shown = [[name] for name in names if name not in lga] + groups[:_ELSE] + groups[-3:]
    rows = [
        [
            _titled(group),
            *_row(group[0], pairs)[1:],
            f"{_mean(group[0], pairs):.3f}",
            _far(group[0], pairs),
        ]
        for group in shown
    ]
    sizes = "; ".join(
        f"{name}: {pair['facts']} facts, {pair['layers']} layers, {found['draws']} draws of "
        f"{pair['proxy']}"
        for name, pair in pairs.items()
    )
    heads = [f"{pair}: rewrite, combined" for pair in pairs]
    calibrated = "; ".join(f"{name} {_calibrated(name, pairs)}" for name in _CALIBRATED)
    about = (
        "\nRegret against the best layer of the sweep, mean (worst) over draws of proxy facts; "
        f"{sizes}. Of {len(lga)} readings of LGA the best and the worst; those that chose the same "
        "layers in every draw share a row. Shares of resamples that agree, for race its confidence "
        f"(right: within {TOLERANCE} of the best layer): {calibrated}. `python "
        f"benchmarks/layer_choice.py`, commit {found['commit']}, "
        "[results/layer_choice.json](results/layer_choice.json)\n"
    )
    return table(["selector", *heads, "mean", "beyond the best five"], rows) + about


def _row(name: str, pairs: dict[str, Any]) -> list[str]:
    cells = []
    for pair in pairs.values():
        scores = [pair["selectors"][name][score] for score in _SCORES]
        cells.append(", ".join(f"{_zero(s['value'])} ({_zero(s['worst'])})" for s in scores))
    return [f"`{name}`", *cells]


def _zero(value: float) -> str:
    """With three digits; rounding may have left a regret of 0 a little below it."""
    return f"{max(value, 0):.3f}"


def _mean(name: str, pairs: dict[str, Any]) -> float:
    return mean(p["selectors"][name][score]["value"] for p in pairs.values() for score in _SCORES)


def _far(name: str, pairs: dict[str, Any]) -> str:
    shares = [pair["selectors"][name]["combined"]["beyond_best_five"] for pair in pairs.values()]
    return f"{mean(shares):.0%}"


def _titled(group: list[str]) -> str:
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    return f"`{group[0]}`{more}"


def _calibrated(name: str, pairs: dict[str, Any]) -> str:
    """Of choices with some confidence, how many lack at most race's tolerance of the best score."""
    seen = []
    for pair in pairs.values():
        row, means = pair["selectors"][name], pair["means"]
        score = [(a + b) / 2 for a, b in zip(means["rewrite"], means["combined"], strict=True)]
        lacks = [max(score) - score[layer] for layer in row["layers"]]
        seen += zip(row["confidence"], lacks, strict=True)
    parts = []
    for low, high in ((0, 0.5), (0.5, 0.75), (0.75, 0.9), (0.9, 1.01)):
        lacks = [lack for confidence, lack in seen if low <= confidence < high]
        if lacks:
            right = sum(lack <= TOLERANCE for lack in lacks)
            parts.append(f"{low:.0%} to {min(high, 1):.0%}: {right} of {len(lacks)} right")
    return ", ".join(parts)


def _papers() -> str:
    """The paper's own mean regrets, over its pairs of model and data set."""
    regrets: dict[str, list[float]] = {}
    for row in _paper.rows():
        if row.get("regret") is not None and row["selector"] in ("LGA", "CMA", "SaLEM"):
            regrets.setdefault(row["selector"], []).append(row["regret"])
    means = ", ".join(f"{n} {mean(r):.3f} ({len(r)})" for n, r in sorted(regrets.items()))
    return f"The paper's mean regret (pairs of model and data): {means}."
