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
_COLUMNS = {  # of README's table, by what pairs' names begin with
    "smollm2": "SmolLM2",
    "smollm2-rome": "SmolLM2",
    "smollm2-emmet": "SmolLM2, EMMET and MEMIT",
    "smollm2-memit": "SmolLM2, EMMET and MEMIT",
    "atlas": "embedded",
    "atlas-llama": "embedded",
}
_SCORES = ("rewrite", "combined")
_CALIBRATED = ("race", "reach", "lga")
_ELSE = 12  # readings of LGA that RESULTS.md shows, apart from the worst


def summary() -> str:
    """README's table: mean and worst regret over draws of the proxy facts."""
    pairs = results("layer_choice")["pairs"]
    columns: dict[str, list[Any]] = {}
    for pair, found in pairs.items():
        columns.setdefault(_COLUMNS[pair.partition("_")[0]], []).append(found)
    rows = [
        [f"`{name}`", *(_regret(name, found) for found in columns.values()), _held_out(name, pairs)]
        for name in _README
    ]
    return table(["selector", *columns, "held out"], rows) + f"\n{_papers()}\n"


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
            *(_regret(group[0], [pair]) for pair in pairs.values()),
            f"{_mean(group[0], pairs):.3f}",
            _held_out(group[0], pairs),
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
        f"{sizes}. Held out: what the layers lack, on the facts that were not drawn, of those that "
        "brute force by the same score chooses on the draw; mean over pairs. Of "
        f"{len(lga)} readings of LGA the best and the worst; those that chose the same "
        "layers in every draw share a row. Shares of resamples that agree, for race its confidence "
        f"(right: within {TOLERANCE} of the best layer): {calibrated}. `python "
        f"benchmarks/layer_choice.py`, commit {found['commit']}, "
        "[results/layer_choice.json](results/layer_choice.json)\n"
    )
    heads += ["mean", "held out: rewrite, combined", "beyond the best five"]
    return table(["selector", *heads], rows) + about


def _regret(name: str, pairs: list[Any]) -> str:
    """In rewrite and combined, the mean over pairs and the worst of all draws."""
    cells = []
    for score in _SCORES:
        scores = [pair["selectors"][name][score] for pair in pairs]
        value, worst = mean(s["value"] for s in scores), max(s["worst"] for s in scores)
        cells.append(f"{_zero(value)} ({_zero(worst)})")
    return ", ".join(cells)


def _zero(value: float) -> str:
    """With three digits; rounding may have left a regret a little below what it is, also of 0."""
    return f"{max(value, 0) + 1e-9:.3f}"


def _mean(name: str, pairs: dict[str, Any]) -> float:
    return mean(p["selectors"][name][score]["value"] for p in pairs.values() for score in _SCORES)


def _held_out(name: str, pairs: dict[str, Any]) -> str:
    """In rewrite and combined, what it lacks of brute force's layers on facts that neither saw."""
    rows = [pair["selectors"][name] for pair in pairs.values()]
    if any(len(row["layers"]) == 1 for row in rows):
        return "one draw"  # says too little
    lacks = [mean(row[score]["held_out"]["value"] for row in rows) for score in _SCORES]
    return ", ".join(f"{lack:.3f}" for lack in lacks)


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
