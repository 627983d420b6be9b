"""The work of `lga-fast apply`, `info`, `diff`, `verify` and `undo`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lga_fast import metrics
from lga_fast.commands import _inputs
from lga_fast.datasets import easyedit_requests
from lga_fast.export import checkpoint_diff, edit_records
from lga_fast.files import check_writable
from lga_fast.metrics import Question, ScoredAnswer
from lga_fast.weight_edit import WeightEdit


def apply(
    edits: tuple[Path, ...],
    out: Path | None,
    peft: Path | None,
    combined: Path | None,
    **fields: Any,
) -> None:
    """Combine edits and write them where asked for."""
    how = _inputs.take_model(fields)
    if not (out or peft or combined):
        raise click.UsageError("say where to write: --out, --peft or --combined")
    _inputs.check_new(out)
    _inputs.check_folders(out, peft)
    if combined:
        check_writable(combined)
    changes = [WeightEdit.load(path) for path in edits]
    model = _inputs.load_model(**how)
    change = edit_records.combine(model, changes)
    if combined:
        change.save(combined)
        click.echo(f"{_count(len(changes))} as one: {combined}")
    for line in _inputs.write_edited(model, change, out, peft):
        click.echo(line)


def info(sources: tuple[Path, ...], as_json: bool) -> None:
    """Print what edits are."""
    described: list[dict[str, Any]] = []
    for path in sources:
        if path.is_dir():
            described += edit_records.read_record(path)["edits"]
        else:
            described.append(edit_records.describe(WeightEdit.load(path)))
    if as_json:
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    for one in described:
        click.echo(f"{one.get('editor', 'unnamed editor')} of {one.get('model', 'a model')}")
        click.echo(f"  checksum {one['checksum']}, model {one.get('model_fingerprint')}")
        for fact in one["requests"]:
            click.echo(f"  {fact['prompt']} → {fact['target_new']}")
        for name, weight in one["weights"].items():
            shape = "x".join(map(str, weight["shape"]))
            click.echo(f"  {name}: {shape}, rank {weight['rank']}, norm {weight['norm']:.4g}")


def diff(first: Path, second: Path, as_json: bool) -> None:
    """Print what differs."""
    found = checkpoint_diff.compare(first, second)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
        return
    for one in found.tensors:
        shape, rank = "x".join(map(str, one.shape)), "" if one.rank is None else f"{one.rank}"
        click.echo(f"{one.name}: {shape}, norm {one.norm:.4g} ({one.relative:.2%})", nl=False)
        click.echo(f", rank {rank}" if rank else "")
    for line in found.unlike:
        click.echo(line)
    click.echo(f"{len(found.tensors)} of {len(found.tensors) + found.same} tensors differ")


def undo(folder: Path, base: str | None) -> None:
    """Put the base model's tensors back."""
    base = base or str(edit_records.read_record(folder)["base"])
    found = checkpoint_diff.compare(base, folder)
    if found.unlike:
        raise click.ClickException(f"{folder} is no edit of {base}: {'; '.join(found.unlike[:3])}")
    checkpoint_diff.put_back(folder, base, [one.name for one in found.tensors])
    for name in (edit_records.RECORD, edit_records.CARD):
        (folder / name).unlink(missing_ok=True)
    click.echo(f"{folder} holds {base} again; tensors put back: {len(found.tensors)}")


def verify(
    folder: Path,
    edits: tuple[Path, ...],
    base: str | None,
    device: str | None,
    dtype: str | None,
    as_json: bool,
) -> None:
    """Check weights, new answers and probes; exit code 1 if one is not as it should be."""
    base = base or str(edit_records.read_record(folder)["base"])
    changes = [WeightEdit.load(path) for path in edits]
    requests = easyedit_requests([r for c in changes for r in c.provenance.get("requests", ())])
    wrong = {
        "weights": _wrong_weights(folder, base, changes),
        "new answers": [],
        "unrelated answers": [],
    }
    own = [Question(request.prompt, request.target_new) for request in requests]
    probes = [probe for request in requests for probe in request.probes]
    near = [Question(p.prompt, p.answer) for p in probes if p.kind == "locality"]
    before, after = (_answers(source, [*own, *near], device, dtype) for source in (base, folder))
    for question, new in zip(own, after, strict=False):
        if new.accuracy < 1:
            wrong["new answers"].append(f"{question.prompt} → {question.answer}: not answered so")
    for question, old, new in zip(near, before[len(own) :], after[len(own) :], strict=True):
        if new.predicted != old.predicted:
            wrong["unrelated answers"].append(f"{question.prompt}: another answer than before")
    counts = {"weights": len(changes), "new answers": len(own), "unrelated answers": len(near)}
    if as_json:
        click.echo(json.dumps({"checked": counts, "wrong": wrong}, indent=2, ensure_ascii=False))
    else:
        for name, problems in wrong.items():
            right = "as they should be" if counts[name] else "none to check"
            state = "NOT as they should be" if problems else right
            click.echo(f"{name}: {state}, {counts[name]} checked")
            for problem in problems:
                click.echo(f"  {problem}")
    if any(wrong.values()):
        sys.exit(1)


def _wrong_weights(folder: Path, base: str, changes: Sequence[WeightEdit]) -> list[str]:
    """What differs although no edit says so, and what does not although one does."""
    found = checkpoint_diff.compare(base, folder)
    stored = checkpoint_diff.tensor_names(folder)
    deltas = {
        checkpoint_diff.stored_name(stored, n): d
        for n, d in edit_records.stack_deltas(changes).items()
    }
    differing = {one.name for one in found.tensors}
    problems = [*found.unlike]
    problems += [f"{name}: differs, and no edit says so" for name in sorted(differing - {*deltas})]
    problems += [f"{name}: the edit is not in it" for name in sorted({*deltas} - differing)]
    for name in sorted(differing & {*deltas}):
        off = checkpoint_diff.change_of(base, folder, name, deltas[name])
        if off > 1:
            problems.append(f"{name}: {off:.3g} times as far from the edit as rounding explains")
    return problems


def _answers(
    source: str | Path, questions: list[Question], device: str | None, dtype: str | None
) -> list[ScoredAnswer]:
    if not questions:
        return []  # without loading a model
    return metrics.score(_inputs.load_model(str(source), device, dtype=dtype), questions)


def _count(edits: int) -> str:
    return "1 edit" if edits == 1 else f"{edits} edits"
