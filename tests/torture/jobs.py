"""Work whose results stay in a folder, to be killed, or to be kept from writing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch

import lga_fast
from lga_fast import files
from lga_fast.editors import _moments
from lga_fast.sweep.run import sweep
from tests.evaluation import runs
from tests.models.edits import make_edit

_CHEAP = {"contexts": ("The book. ",), "steps": 3}


class Jobs:
    """Work whose results stay in a folder: how to start it, and what it leaves there.

    Args:
        folder: where the models of these are saved.
    """

    def __init__(self, folder: Path) -> None:
        self.model = tiny.model("gpt2", torch.float32)
        self.model.hf.save_pretrained(folder, max_shard_size="30KB")
        self.model.tokenizer.save_pretrained(folder)
        self.stored = lga_fast.load(folder, device="cpu", weights="resident")
        self.streamed = lga_fast.load(folder, device="cpu", weights="streamed")
        for model in (self.model, self.stored, self.streamed):
            model.fingerprint()  # once for all children
        self.requests = [runs.request(i) for i in range(8)]
        self.edits = [make_edit(self.model, (1, 2), rank=2, seed=seed) for seed in (0, 1)]

    def evaluate(self, at: Path) -> None:
        runs.evaluate(self.model, self.requests, out=at / "results.jsonl", chunk=2)

    def sweep(self, at: Path) -> None:
        out, layers = at / "sweep.npz", (1, 3)
        sweep(self.model, self.requests[:6], layers=layers, out=out, chunk=2, **_CHEAP)

    def select(self, at: Path) -> None:
        scores = lga_fast.score_layers(self.streamed, self.requests, resume=at / "state")
        text = json.dumps([scores.total().tolist(), scores.case_ids])
        files.write_atomic(at / "scores.json", text)

    def save(self, at: Path) -> None:
        """An edit where another one is."""
        self.edits[1].save(at / "edit.safetensors")

    def adapter(self, at: Path) -> None:
        """An adapter where another one is."""
        self.edits[1].to_peft(at / "adapter", self.model)

    def merge(self, at: Path) -> None:
        shutil.rmtree(at / "merged", ignore_errors=True)
        self.edits[1].to_model(at / "merged", self.stored)

    def moments(self, at: Path) -> None:
        _moments.moments(self.model, [1, 2], tokens=32, cache=at / "moments")

    def before(self, name: str, at: Path) -> None:
        """What is in the folder before a job's first start."""
        if name == "save":
            self.edits[0].save(at / "edit.safetensors")
        if name == "adapter":
            self.edits[0].to_peft(at / "adapter", self.model)


RESUMED = ("evaluate", "sweep", "select")  # what a killed run has done is kept
JOBS = (*RESUMED, "save", "adapter", "merge", "moments")


def outcome(at: Path) -> dict[str, Any]:
    """Every file and what it says, without times and other surroundings."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in at.rglob("*") if p.is_file()):
        name = str(path.relative_to(at))
        if path.suffix == ".jsonl":
            found[name] = runs.lines_of(path)
        elif path.suffix == ".npz":
            with np.load(path) as file:
                found[name] = [file[n].tobytes() for n in ("acc", "before")]
        elif name.startswith("state/") and path.suffix in (".json", ".zip"):
            found[name] = path.stat().st_size if path.suffix == ".zip" else path.read_bytes()
        else:
            found[name] = path.read_bytes()
    return found
