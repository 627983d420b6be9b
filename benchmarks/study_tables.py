"""README's tables of what `lga-fast study` found."""

from __future__ import annotations

import json
from statistics import mean
from typing import Any

try:
    from benchmarks._markdown import HERE, made_by, results, rows_of
except ImportError:
    from _markdown import HERE, made_by, results, rows_of


def studies() -> str:
    """What `lga-fast study` found on both models of the atlas."""
    parts = [_by_layer(), _regret(), _transfer(), _sequential(), _runtime(), _sweep_speed()]
    return "\n".join(part for part in parts if part)


def _study(name: str) -> tuple[dict[str, Any], str]:
    """What a study found, by trial or model, and where from; empty where it was not made."""
    path = f"results/studies/{name}.json"
    if not (HERE / path).exists():
        return {}, ""
    found = json.loads((HERE / path).read_text())
    made, asked = found["made"], found["made"]["setting"]
    command = f"lga-fast study {name} --proxy {asked['proxy']} --test {asked['test']}"
    command += f" --jobs {asked['jobs']}" if asked["jobs"] > 1 else ""
    parts = found.get("models") or found["trials"]
    trial = next(iter(parts.values()))
    trial = next(iter(trial["trials"].values())) if "models" in found else trial
    device = trial["provenance"]["device"]
    source = (
        f"\n`{command}`, commit {made['commit']}, torch {made['torch']}, {device}, "
        f"threads: {made['threads']}; [{path}](benchmarks/{path})\n"
    )
    return parts, source


def _by_layer() -> str:
    """What R-ROME does at each layer; the golden one is marked."""
    found, source = _study("golden")
    if not found:
        return ""
    rows, said = [], []
    for name, one in found.items():
        golden = one["values"]["rewrite"]["golden"]
        for metric in ("rewrite", "rephrase", "locality"):
            means = one["values"][metric]["test"]["mean"]
            cells = [f"{mean:.3f}" for mean in means]
            at = golden["test"][0]
            cells[at] = f"**{cells[at]}**"
            rows.append([name, metric, *cells])
        said.append(_existence(name, one))
    facts = len(next(iter(found.values()))["test_indices"])
    intro = (
        f"R-ROME on {facts} test facts, each edited alone at every layer (bold: the golden layer "
        "of the test facts by rewrite accuracy):\n\n"
    )
    layers = next(iter(found.values()))["layers"]
    table = rows_of(["model", "mean", *map(str, layers)], rows)
    return intro + table + "\n" + " ".join(said) + "\n" + source


def _existence(name: str, one: dict[str, Any]) -> str:
    """One layer for all facts against the best of each, in words."""
    there, golden = one["existence"], one["values"]["rewrite"]["golden"]
    kinds = {"independent samples": "independent", "paired": "paired"}
    values = {words: there["proxy"]["tests"][kind]["p"] for words, kind in kinds.items()}
    tested = ", ".join(f"{words} p = {p:.2g}" for words, p in values.items() if p is not None)
    return (
        f"{name}: the best layer of each fact gives {there['best_of_each']['mean']:.3f}, the "
        f"golden layer of the test facts ({golden['test'][0]}) {there['test']['mean']:.3f}, that "
        f"of the proxy facts ({golden['proxy'][0]}) {there['proxy']['mean']:.3f}"
        f"{f' ({tested})' if tested else ''}; editing and measuring took "
        f"{one['seconds_sweeping']:.0f} s of one thread."
    )


def _regret() -> str:
    """How much worse than the golden layer each selector's is."""
    found, source = _study("compare")
    if not found:
        return ""
    names = list(dict.fromkeys(name for one in found.values() for name in one["choices"]))
    rows = []
    for name in names:
        row = [f"`{name}`"]
        for one in found.values():
            choice = one["choices"].get(name)
            if choice is None:
                row += ["", "", ""]
                continue
            regret, again = choice["regret"]["rewrite"], choice["resampled"]
            layers = choice["layers"]
            row += [
                ", ".join(map(str, layers)) if len(layers) < 4 else f"{len(layers)} layers",
                f"{regret['value']:.3f} ({regret['low']:.3f} to {regret['high']:.3f})",
                f"{again['mean_regret']['rewrite']:.3f}, {again['last_layer']:.0%}"
                if again
                else "",
            ]
        rows.append(row)
    head = ["selector"]
    for name in found:
        head += [f"{name}: layer", "regret (95%)", "resampled, last layer"]
    intro = (
        "Regret: rewrite accuracy of the golden layer of the test facts minus that of the layer "
        "that a selector chooses on the proxy facts, with 95% bootstrap intervals over test facts; "
        "resampled: mean regret over resamples of the proxy facts, and how many of them choose the "
        "last layer.\n\n"
    )
    return intro + rows_of(head, rows) + source


def _transfer() -> str:
    """Regret of layers that one group of facts chose, on others."""
    found, source = _study("transfer")
    if not found:
        return ""
    one = next(iter(found.values()))
    kinds = list(one["golden"])
    rows = []
    for name, model in found.items():
        for selector, layers in model["chosen"].items():
            regret = model["regret"]["rewrite"][selector]
            own = [regret[kind][kind]["value"] for kind in kinds]
            others = [regret[a][b]["value"] for a in kinds for b in kinds if a != b]
            chosen = ", ".join(f"{kind} {layers[kind]}" for kind in kinds)
            rows.append([name, f"`{selector}`", chosen, f"{mean(own):.3f}", f"{mean(others):.3f}"])
    trial = next(iter(one["trials"].values()))
    proxy, test = (len(trial[f"{part}_indices"]) for part in ("proxy", "test"))
    intro = (
        f"Mean regret in rewrite accuracy of layers chosen on {proxy} facts of one kind of "
        f"answers, measured on {test} facts of the same kind and of the others:\n\n"
    )
    head = ["model", "selector", "layer chosen on", "regret on the same kind", "on others"]
    return intro + rows_of(head, rows) + source


def _sequential() -> str:
    """What is left of edits that others follow."""
    found, source = _study("sequential")
    if not found:
        return ""
    facts = len(next(iter(found.values()))["facts"])
    intro = (
        f"Overall (mean of rewrite, rephrase, locality and portability) of {facts} test facts "
        "edited one after another, and in brackets of each edited alone:\n\n"
    )
    names = list(dict.fromkeys(name for one in found.values() for name in one["choices"]))
    rows = [
        [f"`{name}`" if "golden" not in name else name]
        + [_after_others(one["choices"][name]) for one in found.values()]
        for name in names
    ]
    return intro + rows_of(["layer chosen by", *found], rows) + source


def _after_others(choice: dict[str, Any]) -> str:
    means = [choice[mode]["overall"]["mean"] for mode in ("sequential", "single")]
    layers = ", ".join(map(str, choice["layers"]))
    return f"{means[0]:.3f} ({means[1]:.3f}), layer {layers}"


def _runtime() -> str:
    """What choosing costs."""
    found, source = _study("runtime")
    if not found:
        return ""
    rows = [
        [
            name,
            f"`{selector}`",
            f"{row['seconds']:.2f}",
            f"{row['seconds'] / one['selectors']['lga']['seconds']:.1f}",
            f"{row['forwards'] / one['facts']:,.0f}",
            f"{row['facts_timed']} of {one['facts']}" if row.get("facts_timed") else "",
        ]
        for name, one in found.items()
        for selector, row in one["selectors"].items()
    ]
    head = ["model", "selector", "seconds", "times lga's", "forwards per fact", "scaled from"]
    return rows_of(head, rows) + source


def _sweep_speed() -> str:
    """The sweep of the golden study against other ways to make it."""
    found = results("study_cpu")["rows"]
    if not found:
        return ""
    (row,) = found
    return (
        f"On {row['facts']} of these facts, all layers of {row['model']}, the sweep (one process "
        f"for each of {row['jobs']} cores) is {row['sweep_times_faster_than_usual']:.1f} times "
        "faster than the usual way (reference editor, one request at a time, every step the whole "
        "model, weights written, measured alone, put back) and "
        f"{row['sweep_times_faster_than_alone']:.1f} times faster than this library's editor used "
        "for one request at a time; both of these with all cores for their matrix products.\n"
        + made_by("study_cpu", "python benchmarks/study.py")
    )
