"""Whether two commits give the same results, bit for bit, on the embedded atlas.

    python tools/same_results.py write before.json     # in the one checkout
    python tools/same_results.py write after.json      # in the other
    python tools/same_results.py compare before.json after.json

Scores, rankings, edits, evaluations and studies are taken through the public API and the command
line, so that commits whose insides differ can be compared. Arrays stand as checksums of their
bytes. Seconds, memory and versions are left out. One thread; the same machine for both.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lga_fast
from lga_fast import provenance, registry

MODELS = ("atlas", "atlas-llama")
FACTS = 8
LAYER = 3
STUDIES = ("golden", "compare")
STUDY = ["--proxy", "3", "--test", "3", "--seed", "42"]
# What differs between two runs of one commit, and what only words say.
RUN = {"commit", "lga_fast", "peak_bytes", "notes", "config_report", "config_source", "threads"}


def main() -> None:
    """Run the command line."""
    match sys.argv[1:]:
        case ["write", file]:
            torch.set_num_threads(1)
            results = {
                "commit": provenance.commit(),
                "torch": torch.__version__,
                "results": dict(everything()),
            }
            Path(file).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        case ["compare", before, after]:
            sys.exit(compare(Path(before), Path(after)))
        case _:
            sys.exit(__doc__)


def everything() -> Iterator[tuple[str, Any]]:
    """Name and value of each result."""
    for name in MODELS:
        model = lga_fast.load(name)
        facts = lga_fast.load_edits("atlas", limit=FACTS)
        for old in ("model", "ground_truth", None):
            scores = lga_fast.score_layers(model, facts, old=old, abs_new=True)
            for table in ("dot", "norm2_old", "norm2_new", "abs_new"):
                arrays = getattr(scores, table)
                yield f"{name} scores old={old} {table}", {k: digest(v) for k, v in arrays.items()}
            for column in ("loss_old", "loss_new", "known", "says_new"):
                yield f"{name} scores old={old} {column}", digest(getattr(scores, column))
        for selector in registry.names("lga_fast.selectors"):
            ranking = lga_fast.select_layer(model, facts[:4], selector)
            yield f"{name} ranking {selector}", plain(json.loads(ranking.to_json()))
        for editor in registry.names("lga_fast.editors"):
            edit = lga_fast.edit(model, facts[:2], editor, layer=LAYER)
            yield (
                f"{name} edit {editor}",
                {k: [digest(d.left), digest(d.right)] for k, d in edit.deltas.items()},
            )
            results = lga_fast.evaluate(model, facts[:3], editor=editor, layer=LAYER)
            yield f"{name} evaluate {editor}", [[c.case_id, c.before, c.after] for c in results]
        print(f"{name}: done", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        for study in STUDIES:
            out = Path(folder) / study
            command = [sys.executable, "-m", "lga_fast", "study", study, *STUDY, "--out", str(out)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            yield f"study {study}", plain(json.loads((out / f"{study}.json").read_text("utf-8")))
            print(f"study {study}: done", file=sys.stderr)


def digest(array: Any) -> str:
    """A checksum of an array's bytes, shape and dtype."""
    values = np.ascontiguousarray(array)
    text = f"{values.dtype} {values.shape} ".encode() + values.tobytes()
    return hashlib.sha256(text).hexdigest()[:16]


def plain(value: Any) -> Any:
    """A JSON value without what differs between two runs."""
    if isinstance(value, dict):
        stable = {k: v for k, v in value.items() if k not in RUN and "second" not in k}
        return {key: plain(one) for key, one in stable.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def compare(before: Path, after: Path) -> int:
    """Print what differs; 1 where something does."""
    files = [json.loads(file.read_text(encoding="utf-8")) for file in (before, after)]
    old, new = (file["results"] for file in files)
    differ = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    print(
        f"{files[0]['commit']} and {files[1]['commit']}: {len(old)} and {len(new)} results, "
        f"{len(differ)} differ"
    )
    for name in differ:
        print(f"  {name}: {difference(old.get(name), new.get(name))}")
    return int(bool(differ))


def difference(old: Any, new: Any, path: str = "") -> str:
    """The first place where two values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                return difference(old.get(key), new.get(key), f"{path}.{key}")
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        place = next(i for i, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1])
        return difference(old[place], new[place], f"{path}[{place}]")
    return f"{path}: {str(old)[:60]} -> {str(new)[:60]}"


if __name__ == "__main__":
    main()
