"""The golden study's sweep against one edit at a time: `python benchmarks/study.py`.

A few facts of the embedded model, all layers, R-ROME with the model's recommended options. The
usual way is that of other libraries: for every fact and layer the reference editor solves one
request at a time, running all tokens through the whole model in every step; then the weights are
written, the fact is measured alone, and the weights are restored. "alone" is this library's own
editor on one fact and layer at a time. Both use all cores for their matrix products; the sweep has
one process per core. What all facts of a layer share (contexts, second moments) is computed once in
all three. Writes results/study_cpu.json.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lga_fast
from lga_fast import editors
from lga_fast.datasets import LoadedEdits, split
from lga_fast.editors import _rank_one
from lga_fast.metrics import choose, measure_cases
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.studies import METRICS, Setting, run_sweeps
from lga_fast.weight_edit import LowRank, WeightEdit

try:
    from benchmarks import timing
    from benchmarks.editing import usual_edit
    from benchmarks.selection import _spread
except ImportError:
    import timing
    from editing import usual_edit
    from selection import _spread

SEED = 42
MODEL = "atlas"

Edit = Callable[[_rank_one.RankOneSolver, EditRequest], WeightEdit]


def usual(solver: _rank_one.RankOneSolver, fact: EditRequest) -> WeightEdit:
    """The reference editor's edit."""
    with solver.model.frozen():
        left, right = usual_edit(
            solver.model, fact, solver.contexts, solver.layer, solver.optimisation, solver.moment
        )
    delta = LowRank(left.unsqueeze(1), right.unsqueeze(1))
    return WeightEdit({solver.parameter: delta}, solver.provenance)


def alone(solver: _rank_one.RankOneSolver, fact: EditRequest) -> WeightEdit:
    """This library's edit of a single fact."""
    return solver.solve_independent([fact])[0]


def one_at_a_time(
    model: EditableModel, facts: list[EditRequest], layers: int, edit: Edit
) -> dict[str, Any]:
    """Seconds [fact][layer] of editing, writing, measuring and restoring, and the results."""
    metrics = choose(METRICS)
    contexts: dict[str, Any] = {}
    seconds, rewrite = np.zeros((len(facts), layers)), np.zeros((len(facts), layers))
    for layer in range(layers):
        started = time.perf_counter()
        chosen, _, _ = editors.resolve(model, "r_rome", layer, "easyedit", None, contexts)
        solver = chosen.prepare(model, layer)
        assert isinstance(solver, _rank_one.RankOneSolver)
        contexts = {"contexts": solver.contexts}
        seconds[:, layer] += (time.perf_counter() - started) / len(facts)
        for row, fact in enumerate(facts):
            started = time.perf_counter()
            change = edit(solver, fact)
            _, before = measure_cases(model, [fact], None, metrics, show_progress=False)
            with model.edited(change):
                ((values, *_), _) = measure_cases(
                    model, [fact], None, metrics, before, show_progress=False
                )
            seconds[row, layer] += time.perf_counter() - started
            rewrite[row, layer] = values["rewrite"]
    return {"seconds": seconds, "rewrite": rewrite}


def swept(facts: LoadedEdits, jobs: int) -> dict[str, Any]:
    """Seconds of each process, which has a chunk of its own, and of all including start-up."""
    chunk = math.ceil(len(facts) / jobs)
    with tempfile.TemporaryDirectory() as folder:
        half = len(facts) // 2
        setting = Setting(
            Path(folder),
            {"facts": facts},
            (MODEL,),
            proxy=half,
            test=len(facts) - half,
            chunk=chunk,
            jobs=jobs,
            device="cpu",
        )
        started = time.perf_counter()
        (trial,) = run_sweeps(setting, show_progress=False)
        whole = time.perf_counter() - started
        sweep = trial.sweep().of([fact.case_id for fact in facts])
    runs = sweep.provenance["runs"]
    seconds = [one["seconds_editing"] + one["seconds_measuring"] for one in runs]
    return {"seconds": seconds, "seconds_whole": whole, "rewrite": sweep.acc["rewrite"]}


def main() -> None:
    """All three on the same facts, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=4)
    parser.add_argument("--layers", type=int, help="only so many, from 0; to try the script")
    parser.add_argument("--jobs", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # of facts
    model = lga_fast.load(MODEL, device="cpu")
    edits = lga_fast.load_edits("atlas")
    facts = edits.take(split(edits, 30, SEED).test_indices[: options.facts])
    layers = options.layers or model.layers
    row: dict[str, Any] = {
        "model": MODEL,
        "facts": len(facts),
        "layers": layers,
        "jobs": options.jobs,
    }
    ways = {"usual": usual, "alone": alone}
    for way in ways.values():
        one_at_a_time(model, facts[:1], 1, way)  # warm-up
    if layers == model.layers:
        row["sweep"] = swept(facts, options.jobs)
    row |= {name: one_at_a_time(model, facts, layers, way) for name, way in ways.items()}
    for name in ways:
        measured = row[name]
        row[name] = {key: value.tolist() for key, value in measured.items()}
        if "sweep" in row:
            ours = max(row["sweep"]["seconds"])
            row[f"sweep_times_faster_than_{name}"] = float(measured["seconds"].sum() / ours)
            differs = np.abs(measured["rewrite"] - row["sweep"]["rewrite"])
            row[f"rewrite_differs_from_{name}_at_most"] = float(differs.max())
    row["alone_times_faster_than_usual"] = _spread(
        (
            np.array(row["usual"]["seconds"]).sum(0) / np.array(row["alone"]["seconds"]).sum(0)
        ).tolist()
    )
    if "sweep" in row:
        row["sweep"]["rewrite"] = row["sweep"]["rewrite"].tolist()
        timing.write_result("study_cpu", [row], SEED)
    else:
        print(row)


if __name__ == "__main__":
    main()
