"""Tables of what `lga-fast study` found on the atlas, and of what it timed on a real model."""

from __future__ import annotations

import json
from statistics import mean
from typing import Any

try:
    from benchmarks._markdown import HERE, results, source, table
except ImportError:
    from _markdown import HERE, results, source, table


def studies() -> str:
    """What `lga-fast study` found on the atlas, and what it timed on a real model."""
    parts = [_by_layer(), _regret(), _transfer(), _sequential(), _runtime("runtime")]
    return "\n".join([*parts, _runtime("runtime_smollm2"), _sweep_speed()])


def _study(name: str) -> tuple[dict[str, Any], str]:
    """What a study found, by trial or model, and where its numbers come from."""
    path = f"results/studies/{name}.json"
    report = json.loads((HERE / path).read_text())
    run, setting = report["made"], report["made"]["setting"]
    command = f"lga-fast study {report['study']}"
    if setting["models"] != ["atlas", "atlas-llama"]:
        command += "".join(f" --model {model}" for model in setting["models"])
        command += "".join(f" --data {one['name']}={one['file']}" for one in run["data"].values())
    command += f" --proxy {setting['proxy']} --test {setting['test']}"
    command += f" --jobs {setting['jobs']}" if setting["jobs"] > 1 else ""
    command += "".join(f" --selectors {one}" for one in run.get("selectors", ()))
    counts = ("repeats", "batched", "alone")
    command += "".join(f" --{one} {run[one]}" for one in counts if one in run)
    parts = report.get("models") or report["trials"]
    trial = next(iter(parts.values()))
    trial = next(iter(trial["trials"].values())) if "models" in report else trial
    device = trial["provenance"]["device"]
    where = (
        f"\n`{command}`, commit {run['commit']}, torch {run['torch']}, {device}, "
        f"threads: {run['threads']}; [{path}]({path})\n"
    )
    return parts, where


def _by_layer() -> str:
    """What R-ROME does at each layer; the golden one is marked."""
    trials, where = _study("golden")
    rows, sentences = [], []
    for name, one in trials.items():
        golden = one["values"]["rewrite"]["golden"]
        for metric in ("rewrite", "rephrase", "locality"):
            means = one["values"][metric]["test"]["mean"]
            cells = [f"{mean:.3f}" for mean in means]
            at = golden["test"][0]
            cells[at] = f"**{cells[at]}**"
            rows.append([name, metric, *cells])
        sentences.append(_existence(name, one))
    facts = len(next(iter(trials.values()))["test_indices"])
    intro = (
        f"R-ROME on {facts} test facts, each edited alone at every layer (bold: the golden layer "
        "of the test facts by rewrite accuracy):\n\n"
    )
    layers = next(iter(trials.values()))["layers"]
    by_layer = table(["model", "mean", *map(str, layers)], rows)
    return intro + by_layer + "\n" + " ".join(sentences) + "\n" + where


def _existence(name: str, one: dict[str, Any]) -> str:
    """One layer for all facts compared with the best layer of each fact."""
    means, golden = one["existence"], one["values"]["rewrite"]["golden"]
    kinds = {"independent samples": "independent", "paired": "paired"}
    values = {words: means["proxy"]["tests"][kind]["p"] for words, kind in kinds.items()}
    tests = ", ".join(f"{words} p = {p:.2g}" for words, p in values.items() if p is not None)
    return (
        f"{name}: the best layer of each fact gives {means['best_of_each']['mean']:.3f}, the "
        f"golden layer of the test facts ({golden['test'][0]}) {means['test']['mean']:.3f}, that "
        f"of the proxy facts ({golden['proxy'][0]}) {means['proxy']['mean']:.3f}"
        f"{f' ({tests})' if tests else ''}; editing and measuring took "
        f"{one['seconds_sweeping']:.0f} s of one thread."
    )


def _regret() -> str:
    """Regret of the layer that each selector chooses."""
    trials, where = _study("compare")
    names = list(dict.fromkeys(name for one in trials.values() for name in one["choices"]))
    rows = []
    for name in names:
        row = [f"`{name}`"]
        for one in trials.values():
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
    for name in trials:
        head += [f"{name}: layer", "regret (95%)", "resampled, last layer"]
    intro = (
        "Regret: rewrite accuracy at the golden layer of the test facts minus that at the layer a "
        "selector chooses on the proxy facts, with 95% bootstrap intervals over the test facts. "
        "Resampled: mean regret over resamples of the proxy facts, and the share of resamples that "
        "choose the last layer.\n\n"
    )
    return intro + table(head, rows) + where


def _transfer() -> str:
    """Regret of layers chosen on one group of facts, for other groups."""
    trials, where = _study("transfer")
    one = next(iter(trials.values()))
    kinds = list(one["golden"])
    rows = []
    for name, model in trials.items():
        for selector, layers in model["chosen"].items():
            regret = model["regret"]["rewrite"][selector]
            own = [regret[kind][kind]["value"] for kind in kinds]
            others = [regret[a][b]["value"] for a in kinds for b in kinds if a != b]
            chosen = ", ".join(f"{kind} {layers[kind]}" for kind in kinds)
            rows.append([name, f"`{selector}`", chosen, f"{mean(own):.3f}", f"{mean(others):.3f}"])
    trial = next(iter(one["trials"].values()))
    proxy, test = (len(trial[f"{part}_indices"]) for part in ("proxy", "test"))
    intro = (
        f"Mean regret in rewrite accuracy of layers chosen on {proxy} facts with one kind of "
        f"answer, measured on {test} facts of the same kind and of the other kinds:\n\n"
    )
    head = ["model", "selector", "layer chosen on", "regret on the same kind", "on others"]
    return intro + table(head, rows) + where


def _sequential() -> str:
    """What remains of edits after later ones."""
    trials, where = _study("sequential")
    facts = len(next(iter(trials.values()))["facts"])
    intro = (
        f"Overall (mean of rewrite, rephrase, locality and portability) of {facts} test facts "
        "edited one after another; in brackets, each edited alone:\n\n"
    )
    names = list(dict.fromkeys(name for one in trials.values() for name in one["choices"]))
    rows = [
        [f"`{name}`" if "golden" not in name else name]
        + [_sequential_and_alone(one["choices"][name]) for one in trials.values()]
        for name in names
    ]
    return intro + table(["layer chosen by", *trials], rows) + where


def _sequential_and_alone(choice: dict[str, Any]) -> str:
    means = [choice[mode]["overall"]["mean"] for mode in ("sequential", "single")]
    layers = ", ".join(map(str, choice["layers"]))
    return f"{means[0]:.3f} ({means[1]:.3f}), layer {layers}"


def _runtime(study: str) -> str:
    """The cost of choosing a layer."""
    trials, where = _study(study)
    rows = [
        [
            name,
            f"`{selector}`",
            f"{row['seconds']:.2f}",
            f"{row['seconds'] / one['selectors']['lga']['seconds']:.1f}",
            f"{row['forwards'] / one['facts']:,.0f}",
            f"{row['edits']:,}",
            f"{row['facts_timed']} of {one['facts']}" if row.get("facts_timed") else "",
        ]
        for name, one in trials.items()
        for selector, row in one["selectors"].items()
    ]
    head = ["model", "selector", "seconds", "times lga's", "forwards per fact", "edits"]
    return table([*head, "scaled from"], rows) + where


def _sweep_speed() -> str:
    """The sweep of the golden study against other ways to make it."""
    (row,) = results("study_cpu")["rows"]
    return (
        f"For {row['facts']} of these facts at all layers of {row['model']}, the sweep (one "
        f"process on each of {row['jobs']} cores) is {row['sweep_times_faster_than_usual']:.1f} "
        "times faster than the usual way (reference editor, one request at a time, the whole model "
        "in every step, weights written, measured one by one, restored) and "
        f"{row['sweep_times_faster_than_alone']:.1f} times faster than this library's editor on "
        "one request at a time. Both alternatives use all cores for their matrix products.\n"
        + source("study_cpu", "python benchmarks/study.py")
    )
