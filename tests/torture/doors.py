"""Doors that need a model or files of several parts; each takes a folder of its own."""

from __future__ import annotations

import collections
import contextlib
import io
import json
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save_file

import lga_fast
from lga_fast.datasets import easyedit_requests
from lga_fast.editors._moments import KIND as MOMENTS
from lga_fast.editors._moments import moments
from lga_fast.evaluation.results_file import CaseFile
from lga_fast.evaluation_records import CaseResult
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.reports import ranking_table
from lga_fast.reports.table import Table
from lga_fast.sweep.run import sweep
from lga_fast.weight_edit import KIND
from tests.evaluation.runs import REQUESTS
from tests.models.edits import make_edit
from tests.torture.command_line import command_line
from tests.torture.hostile import RANKING, VALUES, asked, damaged, text_of

Door = Callable[[random.Random], Any]
TAG = "<script>alert(1)</script>"
_CHEAP = {"contexts": ("The book. ",), "steps": 1, "metrics": ("rewrite",)}
_IDS = ["a", "b", "c"]


class Stopped(Exception):
    """Ends a run that another is to go on with."""


@cache
def _model() -> Any:
    return tiny.model("gpt2", torch.float32)


def _result(case_id: str) -> CaseResult:
    return CaseResult(case_id, 1, {"rewrite": 1.0}, {"rewrite": None}, ("n",), 0.1, 0.1, 1)


@cache
def _bytes_of(kind: str) -> dict[str, bytes]:
    """The files of a kind of folder, whole, by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == "model":
            model = _model()
            model.hf.save_pretrained(folder, max_shard_size="30KB")
            model.tokenizer.save_pretrained(folder)
        elif kind == "sweep":
            sweep(_model(), REQUESTS[:1], layers=(1,), out=folder / "sweep.npz", **_CHEAP)
        elif kind == "results":
            file = CaseFile(folder / "results.jsonl", {"a": 1}, {"commit": "b"}, _IDS)
            file.add([_result(one) for one in _IDS])
        elif kind == "moments":
            moments(_model(), [0], tokens=10, cache=folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _written(kind: str, folder: Path, draw: random.Random) -> str:
    """Write such a folder with one of its files damaged, and say which."""
    folder.mkdir(exist_ok=True)
    files = _bytes_of(kind)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    name = draw.choice(sorted(files))
    (folder / name).write_bytes(damaged(files[name], draw, name.endswith(".json")))
    return name


def load(folder: Path, draw: random.Random) -> None:
    """A model's folder."""
    _written("model", folder / "model", draw)
    weights = draw.choice(("resident", "streamed"))
    lga_fast.load(folder / "model", device="cpu", weights=weights)


def results(folder: Path, draw: random.Random) -> None:
    """A file of results, one line of it changed, or its bytes."""
    path = folder / "results.jsonl"
    whole = _bytes_of("results")[path.name]
    lines = whole.decode().splitlines()
    at = draw.randrange(len(lines))
    lines[at] = text_of(json.loads(lines[at]), draw)
    text = "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")
    path.write_bytes(text if draw.random() < 0.7 else damaged(whole, draw))
    file = CaseFile(path, {"a": 1}, {"commit": "b"}, _IDS)
    file.add([_result(one) for one in _IDS[len(file.results) :]])
    file.evaluation(0)


def swept(folder: Path, draw: random.Random) -> None:
    """A sweep's file: its bytes, its description, or its arrays."""
    path = folder / "sweep.npz"
    whole = _bytes_of("sweep")[path.name]
    path.write_bytes(whole)
    with np.load(path) as file:
        arrays = dict(file)
    how = draw.random()
    if how < 0.4:
        path.write_bytes(damaged(whole, draw))
    elif how < 0.7:
        text = text_of(json.loads(str(arrays["about"])), draw)
        if "\0" in text or "\ud800" in text:
            return  # numpy cannot store it
        np.savez(path, **arrays | {"about": np.array(text)})
    else:
        name = draw.choice(sorted(arrays))
        other = draw.choice((np.zeros(3), np.array("x"), np.zeros((1, 1, 1), int), np.zeros(0)))
        np.savez(path, **{n: a for n, a in (arrays | {name: other}).items() if draw.random() < 0.9})
    sweep(_model(), REQUESTS[:1], layers=(1,), out=path, **_CHEAP)


@cache
def _streamed() -> tuple[Any, dict[str, bytes]]:
    """A streamed model, and the state of its scoring pass after some blocks, by file."""
    folder = Path(tempfile.mkdtemp())  # as long as the process
    for name, content in _bytes_of("model").items():
        (folder / name).write_bytes(content)
    model, state = lga_fast.load(folder, device="cpu", weights="streamed"), folder / "state"
    runner, runs = model.block_runner(), []
    real = runner.run

    def failing(layer: int, *rest: Any) -> Any:
        runs.append(layer)
        if (state / "pairs.json").exists() and layer == 3:
            raise Stopped
        return real(layer, *rest)

    runner.run = failing
    with contextlib.suppress(Stopped):
        lga_fast.score_layers(model, REQUESTS[:2], resume=state)
    del runner.run
    return model, {path.name: path.read_bytes() for path in state.iterdir()}


def checkpoint(folder: Path, draw: random.Random) -> None:
    """The folder of a streamed pass that was killed."""
    model, files = _streamed()
    state = folder / "state"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    for name, content in files.items():
        (state / name).write_bytes(content)
    name = draw.choice(sorted(files))
    (state / name).write_bytes(damaged(files[name], draw, name.endswith(".json")))
    lga_fast.score_layers(model, REQUESTS[:2], resume=state)


def edit_file(folder: Path, draw: random.Random) -> None:
    """An edit's safetensors file with other tensors, another description, or broken bytes."""
    path, edit = folder / "edit.safetensors", make_edit(_model())
    edit.save(path)
    if draw.random() < 0.4:
        path.write_bytes(damaged(path.read_bytes(), draw))
    else:
        about = text_of({"version": 1, "provenance": edit.provenance}, draw)
        names = ("h.left", "h.right", "x", "h")
        tensors = {draw.choice(names): torch.zeros(draw.choice(((2, 1), (2,), (0, 0))))}
        metadata = {KIND: about.encode("utf-8", "replace").decode()}
        save_file(tensors, path, metadata)
    loaded = lga_fast.WeightEdit.load(path)
    with _model().edited(loaded):
        pass


def statistics(folder: Path, draw: random.Random) -> None:
    """A cached file of second moments: another description, or broken bytes."""
    ((name, whole),) = _bytes_of("moments").items()
    path = folder / name
    path.write_bytes(whole)
    if draw.random() < 0.4:
        path.write_bytes(damaged(whole, draw))
    else:
        with safe_open(path, "pt") as file:
            about, second = json.loads(file.metadata()[MOMENTS]), file.get_tensor("second")
        text = text_of(about, draw).encode("utf-8", "replace").decode()
        save_file({"second": second}, path, {MOMENTS: text})
    moments(_model(), [0], tokens=10, cache=folder)


def request(folder: Path, draw: random.Random) -> None:
    """An EditRequest made in Python, then used."""
    plain = {"case_id": "1", "prompt": "The tower of Paris", "target_new": "Rome"}
    plain |= {"subject": "Paris", "subject_span": (13, 18), "target_old": "x", "probes": ()}
    one = EditRequest(**plain | {draw.choice(sorted(plain)): draw.choice(VALUES)})
    easyedit_requests([one])


def reports(folder: Path, draw: random.Random) -> None:
    """Texts of others in what is shown: escaped, and never an error."""
    texts = (TAG, "|", "\\", "[bold]", "[/]", "\x1b[31m", "$x_y$", "\n", "\u202e", "x" * 5000, "")
    some = [draw.choice(texts) for _ in range(8)]
    table = Table(some[0], (some[1], some[2]), ((some[3], some[4]),), some[5])
    shown = [table.markdown(), table.csv(), table.latex()]
    ranking = LayerRanking.from_json(json.dumps(RANKING))
    plain = {"case_id": some[2], "prompt": some[3], "target_new": some[4]}
    fields = {"selector": some[0], "score_label": some[1], "notes": (some[2], some[3])}
    about = {"model": some[4], "dtype": some[5], "device": some[6], "kernel": some[6]}
    about |= {"data": {"name": some[7], "file": some[0]}}
    ranking = LayerRanking(**vars(ranking) | fields | {"provenance": about, "requests": 1})
    edit = make_edit(_model(), editor=some[0], requests=[plain | {"subject": some[1]}])
    html = [ranking._repr_html_() or "", edit._repr_html_() or "", shown[0]]
    for markup in (True, False):
        console = Console(file=io.StringIO(), width=draw.choice((20, 80, 200)), markup=markup)
        ranking_table.show(ranking, console)
    if any(TAG in text for text in html):
        raise AssertionError("a text became part of the page")


# by name, with how many times fewer inputs each takes than a door that only reads a text
DOORS: dict[str, tuple[Callable[[Path, random.Random], None], int]] = {
    "model folder": (load, 8),
    "results file": (results, 1),
    "sweep file": (swept, 8),
    "moments file": (statistics, 8),
    "checkpoint of a pass": (checkpoint, 8),
    "edit file": (edit_file, 2),
    "EditRequest": (request, 1),
    "reports": (reports, 2),
    "command line": (command_line, 4),
}


def tried(seed: int, failures: list[str], each: int = 40) -> collections.Counter[str]:
    """How many inputs were tried; see `hostile.tried`."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        count: collections.Counter[str] = collections.Counter()
        for name, (door, cost) in DOORS.items():
            count += asked({name: partial(door, Path(folder))}, seed, failures, -(-each // cost))
        return count
