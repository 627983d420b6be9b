"""A real model from end to end: `make real`, or `make real-short` for what `.ci/run` does.

The models of the test suite were trained here or are random; this one was trained by others. It is
fetched, asked for a layer, edited, evaluated on ten facts, and swept over a few layers.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import lga_fast
from lga_fast.errors import LgaFastError
from lga_fast.records import EditRequest
from lga_fast.reports import answers
from lga_fast.selectors import TO_EDIT
from lga_fast.sweep.run import sweep
from tools.real.fetch import NAME, CannotDownload, fetch

FACTS = Path(__file__).parent / "facts.json"  # the model knows all of them
PROXY = 4  # facts to choose a layer on; the others are evaluated
LAYER = 13  # where a whole sweep with R-ROME in float32 found rewriting best
LAYERS = (3, LAYER, 20, 26)
SWEPT = 3


def main() -> None:
    """Run every step, print what it gave and how long it took; exit 1 if one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="only select and edit")
    short = parser.parse_args().short
    try:
        run(short)
    except CannotDownload as error:
        print(f"make real: skipped, {error}")
        sys.exit(0 if short else 1)
    except LgaFastError as error:
        sys.exit(f"make real: {error}")


def run(short: bool) -> None:
    """Fetch, load, select and edit; evaluate and sweep as well unless it is to be `short`."""
    table = Table("step", "result", "seconds", title=f"{NAME}, bfloat16 on the CPU")
    clock = time.perf_counter()

    def done(step: str, result: str) -> None:
        nonlocal clock
        before, clock = clock, time.perf_counter()
        table.add_row(step, result, f"{clock - before:.1f}")
        print(f"{step}: {result}", flush=True)

    done("fetch", str(fetch()))
    model = lga_fast.load(NAME, device="cpu")
    facts = lga_fast.load_edits("counterfact", FACTS)
    done("load", f"{model.layers} layers, weights stored as {model.dequantised_from} before")
    ranking = lga_fast.select_layer(model, facts[:PROXY], TO_EDIT)
    done("select", f"{TO_EDIT} chooses layer {int(ranking)} on {PROXY} facts")
    done("edit", edited(model, facts[:1], {"contexts": ()} if short else {}))
    if not short:
        results = lga_fast.evaluate(model, facts[PROXY:], layer=LAYER)
        values = {name: average.mean for name, average in results.summary.after.items()}
        done("evaluate", f"{len(results)} facts at layer {LAYER}: {means(values)}")
        swept = sweep(model, facts[PROXY : PROXY + SWEPT], layers=LAYERS)
        done("sweep", f"{SWEPT} facts at layers {', '.join(map(str, LAYERS))}")
        for i, layer in enumerate(LAYERS):
            table.add_row("", f"layer {layer}: {means(at_layer(swept.acc, i))}", "")
    Console().print(table)


def edited(
    model: lga_fast.EditableModel, request: list[EditRequest], options: dict[str, Any]
) -> str:
    """Edit a fact; the new answer must come, and every bit of the model come back."""
    before = {name: tensor.clone() for name, tensor in model.hf.state_dict().items()}
    change = lga_fast.edit(model, request, layer=LAYER, **options)
    report = answers.compare(model, request, change)
    after = model.hf.state_dict()
    if differing := [name for name in before if not torch.equal(before[name], after[name])]:
        raise LgaFastError(f"expected the weights back as they were, {differing} differ")
    asked, wanted = report.answers[0], request[0].target_new
    if asked.after.text.strip() != wanted:
        raise LgaFastError(f"expected the edited model to answer {wanted!r}, got {asked.after}")
    return (
        f"{request[0].subject}: {asked.before.text} becomes {asked.after.text} "
        f"({asked.new_before:.0%} to {asked.new_after:.0%}), undone bit for bit"
    )


def means(values: dict[str, float]) -> str:
    """Means of metrics on one line."""
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items() if "/" not in name)


def at_layer(acc: dict[str, np.ndarray], i: int) -> dict[str, float]:
    """Means over the facts at the i-th layer of a sweep."""
    return {name: float(np.nanmean(values[:, i])) for name, values in acc.items()}


if __name__ == "__main__":
    main()
