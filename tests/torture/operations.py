"""What is interrupted: the public ways to use a model, most with edits that change weights."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import tiny
import torch

import lga_fast
from lga_fast.datasets import easyedit_requests
from lga_fast.editors import _moments
from lga_fast.models import EditableModel
from lga_fast.sweep.run import sweep
from tests.evaluation.runs import REQUESTS
from tests.models.edits import make_edit

_CHEAP = {"contexts": ("The book. ",), "steps": 2}


def edited(model: EditableModel, folder: Path) -> None:
    """Nested edits of the same weight, and what is running when Ctrl-C comes."""
    first, second = make_edit(model, (1, 3)), make_edit(model, (1, 2), seed=1)
    with model.edited(first), model.edited(second), model.frozen():
        model.hf(input_ids=torch.arange(6).unsqueeze(0))
        raise KeyboardInterrupt


def select(model: EditableModel, folder: Path) -> None:
    lga_fast.select_layer(model, REQUESTS[:2], selector="lga")


def trace(model: EditableModel, folder: Path) -> None:
    lga_fast.select_layer(model, REQUESTS[:1], selector="cma", samples=1)


def race(model: EditableModel, folder: Path) -> None:
    config = _config(folder)
    lga_fast.select_layer(model, REQUESTS[:1], selector="race", config=config)


def joint(model: EditableModel, folder: Path) -> None:
    """Two requests, the second solved on the model that carries the first."""
    lga_fast.edit(model, REQUESTS[:2], "r_rome", layer=1, **_CHEAP)


def mass(model: EditableModel, folder: Path) -> None:
    """Two layers, the second solved on the model that carries the first."""
    lga_fast.edit(model, REQUESTS[:2], "memit", layer=2, layers=(1, 2), mom2_weight=20, **_CHEAP)


def moments(model: EditableModel, folder: Path) -> None:
    _moments.moments(model, [1])


def evaluate(model: EditableModel, folder: Path) -> None:
    out = folder / "results.jsonl"
    lga_fast.evaluate(model, REQUESTS[:2], layer=1, mode="sequential", out=out, **_CHEAP)


def all_layers(model: EditableModel, folder: Path) -> None:
    """What studies are made of: an edit at every layer."""
    sweep(model, easyedit_requests(REQUESTS[:1]), "r_rome", **_CHEAP)


OPERATIONS = {
    "gpt2": (edited, select, trace, race, joint, mass, moments, evaluate, all_layers),
    "mixtral": (select,),  # experts run by a function that is registered for a while
    "streamed llama": (edited, select, joint, mass, moments),
}


def make(kind: str, folder: Path) -> EditableModel:
    """The model of these operations; those that are streamed are saved to `folder`."""
    model = tiny.model(kind.removeprefix("streamed "), torch.float32)
    if not kind.startswith("streamed"):
        return model
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return lga_fast.load(folder, device="cpu", weights="streamed")


def quietly(operation: Callable[[EditableModel, Path], None], model: EditableModel) -> None:
    """Run an operation in a folder of its own, without its warnings."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        try:
            operation(model, Path(folder))
        except KeyboardInterrupt:
            if operation is not edited:
                raise


def _config(folder: Path) -> str:
    path = folder / "cheap.json"
    path.write_text(json.dumps(_CHEAP))
    return str(path)
