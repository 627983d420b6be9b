"""Layers chosen on fresh facts: `python benchmarks/fresh_draws.py OUT.json PAIR [PAIR ...]`.

A PAIR is NAME=MODEL,DATA,FILE,SWEEP, as for `layer_choice.py`. LGA, SaLEM, reach and race choose,
with their defaults, on random draws of the file's facts, whether the model knows them or not; none
of them is among the swept ones, whose means judge the layers. A run that was stopped resumes: each
choice is written at once, with the commit that made it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lga_fast
from lga_fast import files, provenance
from lga_fast.records import EditRequest

try:
    from benchmarks.layer_choice import judged, regrets
    from benchmarks.real_sweep import facts_of, read
except ImportError:
    from layer_choice import judged, regrets
    from real_sweep import facts_of, read

SELECTORS = ("lga", "salem", "reach", "race")
DRAWS, PROXY, SEED = 20, 30, 42


def main() -> None:
    """Choose on every draw that is not in the file yet, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("pairs", nargs="+")
    given = parser.parse_args()
    torch.set_num_threads(1)
    done = json.loads(given.out.read_text())["pairs"] if given.out.exists() else {}
    about = {"draws": DRAWS, "proxy": PROXY, "seed": SEED}
    for name, _, rest in (pair.partition("=") for pair in given.pairs):
        source, data, file, swept = rest.split(",")
        truth = read(Path(swept))
        usable = [fact for fact in facts_of(data, file) if fact.subject_span is not None]
        facts = [fact for fact in usable if fact.case_id not in truth.case_ids]
        model = lga_fast.load(source, dtype="float32")
        pair = done.setdefault(name, {"choices": {}})
        for number, selector in itertools.product(range(DRAWS), SELECTORS):
            choices = pair["choices"].setdefault(selector, [])
            if len(choices) <= number:
                choices.append(choice(model, drawn(facts, number), selector))
                write(given.out, about | {"pairs": done})
                print(name, number, selector, choices[-1], flush=True)
        pair |= {"facts": len(facts), "judged_by": len(truth.case_ids)}
        pair["selectors"] = {
            selector: regrets(judged(truth), [(c["layer"], c["confidence"] or 0) for c in made])
            for selector, made in pair["choices"].items()
        }
        write(given.out, about | {"pairs": done})


def write(out: Path, results: dict[str, Any]) -> None:
    """All there is so far."""
    files.write_atomic(out, json.dumps(results) + "\n")


def drawn(facts: list[EditRequest], number: int) -> list[EditRequest]:
    """The facts of a draw, which its number decides."""
    places = np.random.default_rng([SEED, number]).permutation(len(facts))[:PROXY]
    return [facts[place] for place in places]


def choice(
    model: lga_fast.EditableModel, facts: list[EditRequest], selector: str
) -> dict[str, Any]:
    """What a selector chooses, and what it says of its choice."""
    started = time.perf_counter()
    ranking = lga_fast.select_layer(model, facts, selector)
    return {
        "commit": provenance.commit(),
        "layer": ranking.layer,
        "confidence": ranking.confidence,
        "stability": ranking.stability[ranking.layer] if ranking.stability else None,
        "doubted": any(note.startswith("Check this choice") for note in ranking.notes),
        "known": ranking.known,
        "seconds": round(time.perf_counter() - started, 2),
    }


if __name__ == "__main__":
    main()
