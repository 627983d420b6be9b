"""What is written beside edited weights about the edits in them, and several edits as one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

import lga_fast
from lga_fast.errors import DataError, EditError
from lga_fast.models import EditableModel, check_loaded
from lga_fast.weight_edit import LowRank, WeightEdit

RECORD, CARD = "lga_fast_edits.json", "README.md"
_VERSION = 1
_FACTS = ("case_id", "prompt", "subject", "target_new")


def combine(model: EditableModel, edits: Sequence[WeightEdit]) -> WeightEdit:
    """Several edits as one, of the model as it is; it is left unchanged.

    They may all be solved on this model, or each on the model that carries those before it. Weights
    of low precision are rounded once.

    Args:
        model: see `lga_fast.load`.
        edits: in the order in which they were made.

    Returns:
        An edit whose provenance has those of all, under `edits`.

    Raises:
        EditError: there is none, or one is of other weights.
    """
    check_loaded(model)
    if not edits:
        raise EditError("combine: expected one edit or more, got none")
    fingerprint = model.fingerprint()
    with ExitStack() as stack:
        for edit in edits:  # refuses those of other weights
            stack.enter_context(model.edited(edit))
    if len(edits) == 1:
        return edits[0]
    about = {"editor": " + ".join(dict.fromkeys(str(e.provenance.get("editor")) for e in edits))}
    about |= {"model": model.name, "model_fingerprint": fingerprint}
    about |= {"requests": [fact for edit in edits for fact in edit.provenance.get("requests", ())]}
    parts = [edit.provenance | {"checksum": edit.checksum} for edit in edits]
    return WeightEdit(stack_deltas(edits), about | {"edits": parts})


def stack_deltas(edits: Sequence[WeightEdit]) -> dict[str, LowRank]:
    """The changes of all edits together; the ranks of those of one weight add up."""
    by_name: dict[str, list[LowRank]] = {}
    for edit in edits:
        for name, delta in edit.deltas.items():
            by_name.setdefault(name, []).append(delta)
    return {
        name: LowRank(*(torch.cat([getattr(d, side) for d in of], 1) for side in ("left", "right")))
        for name, of in by_name.items()
    }


def describe(edit: WeightEdit) -> dict[str, Any]:
    """An edit in a few plain values: what made it, for which facts, and what it changes."""
    about = edit.provenance
    names = ("editor", "layer", "model", "model_fingerprint", "version", "commit")
    facts = [{n: fact.get(n) for n in _FACTS} for fact in about.get("requests", ())]
    weights = {
        name: {"shape": list(delta.shape), "rank": delta.rank, "norm": norm(delta)}
        for name, delta in edit.deltas.items()
    }
    known = {name: about[name] for name in names if name in about}
    return {"checksum": edit.checksum, **known, "requests": facts, "weights": weights}


def norm(delta: LowRank) -> float:
    """`‖left · rightᵀ‖`, the Frobenius norm, without forming the product."""
    left, right = delta.left.double(), delta.right.double()
    square = ((left.T @ left) * (right.T @ right)).sum()
    return float(torch.clamp(square, min=0).sqrt())


def read_record(folder: str | Path) -> dict[str, Any]:
    """The record in the folder of an edited model or of an adapter.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    path = Path(folder) / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["version"] == _VERSION:
            return record
        problem = f"version {record['version']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = str(error)
    raise DataError(
        f"{path}: expected the record that lga-fast writes beside an edited model or an adapter, "
        f"got: {problem}"
    )


def record_of(model: EditableModel, edits: Sequence[WeightEdit]) -> dict[str, str]:
    """The record and the model card of a folder that holds `model` with these edits, by name."""
    record: dict[str, Any] = {"version": _VERSION, "lga_fast": lga_fast.__version__}
    earlier: list[Any] = []
    base = model.source or model.name
    if model.source and (Path(model.source) / RECORD).is_file():
        before = read_record(model.source)
        base, earlier = before["base"], before["edits"]
    record |= {"base": base, "edits": [*earlier, *map(describe, edits)]}
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    return {RECORD: text, CARD: _card(record)}


def _card(record: Mapping[str, Any]) -> str:
    """A model card in Markdown."""
    base, on_hub = str(record["base"]), []
    if Path(base).exists():
        base = Path(base).name
    elif base.count("/") == 1:
        on_hub = [f"base_model: {base}"]
    rows = [
        f"| {fact['prompt']} | {fact['target_new']} | {edit.get('editor', '')} | "
        f"{', '.join(edit['weights'])} |".replace("\n", " ")
        for edit in record["edits"]
        for fact in edit["requests"] or [{"prompt": "", "target_new": ""}]
    ]
    lines = ["---", *on_hub, "tags: [lga_fast, knowledge-editing]", "---", "", "# Edited facts", ""]
    lines += [f"{base} with facts that were edited by lga_fast {record['lga_fast']}.", ""]
    lines += ["| prompt | new answer | editor | weights |", "| --- | --- | --- | --- |", *rows, ""]
    lines += [f"`{RECORD}` has the details. All other weights are those of the base model.", ""]
    return "\n".join(lines)
