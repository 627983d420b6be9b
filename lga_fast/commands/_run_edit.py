"""The work of `lga-fast edit`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from lga_fast import named_models
from lga_fast.commands import _inputs, _recipe
from lga_fast.commands._notes import recorded_notes
from lga_fast.datasets import FactToken, LoadedEdits, load_edits
from lga_fast.editors import Preset, chosen_layers, edit, verbose_costs
from lga_fast.errors import NoLayer
from lga_fast.files import write_atomic
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.reports import answers, answers_table, pages
from lga_fast.weight_edit import WeightEdit


def run(
    prompt: str | None,
    subject: str | None,
    target: str | None,
    rephrase: str | None,
    data: str | None,
    fact_token: FactToken,
    limit: int | None,
    editor: str,
    preset: Preset,
    config: Path | None,
    layer: int | None,
    proxy: int,
    seed: int,
    as_json: bool,
    out: Path,
    html: Path | None,
    merge: Path | None,
    peft: Path | None,
    **fields: Any,
) -> None:
    """Edit the model, compare its answers, and write the edit."""
    _inputs.refuse_ranks("edit", "start it without torchrun")
    how = _inputs.take_model(fields)
    _check_destinations(out, merge, peft)
    _inputs.check_page(html)
    requests, facts = _requests(how["source"], prompt, subject, target, data, fact_token, limit)
    if rephrase is not None and len(requests) > 1:
        raise click.UsageError(f"--rephrase is for one request, but there are {len(requests)}")
    arguments = _inputs.editor_arguments(editor, preset, config, layer, seed, fields)
    model = _inputs.load_model(**how)
    with verbose_costs(), recorded_notes() as notes:
        change, ranking = _solve(model, requests, facts, layer, proxy, seed, arguments)
    notes = list(dict.fromkeys([*notes, *change.provenance["config_report"]["notes"]]))
    report = answers.compare(model, requests, change, rephrase=rephrase, seed=seed, notes=notes)
    written = _write(model, change, report, out, merge, peft)
    if html:
        write_atomic(html, pages.edit_page(report, change, ranking, _recipe.command_line()))
        written += f"\nPage: {html}"
    if as_json:
        click.echo(report.to_json())
    else:
        answers_table.show(report, Console(markup=False))
        click.echo(written)


def _check_destinations(out: Path, merge: Path | None, peft: Path | None) -> None:
    _inputs.check_folders(out, merge, peft)
    _inputs.check_new(merge)
    for flag, other in (("--out", out), ("--peft", peft)):
        if merge and other and other.resolve().is_relative_to(merge.resolve()):
            raise click.UsageError(f"{flag} {other}: expected a folder outside --merge {merge}")


def _requests(
    source: str,
    prompt: str | None,
    subject: str | None,
    target: str | None,
    data: str | None,
    fact_token: FactToken,
    limit: int | None,
) -> tuple[Sequence[EditRequest], LoadedEdits | None]:
    """What to edit, and the facts on which to choose a layer, if there are any."""
    if (prompt, subject, target) != (None, None, None):
        if limit:
            raise click.UsageError("--limit is for the edits of --data, but --prompt gives one")
        if fact_token == "last":  # the subject is the whole prompt
            subject = prompt and prompt.rstrip()
        one = _one_request({"--prompt": prompt, "--subject": subject, "--target": target})
        named = named_models.find(source)
        data = data or (named.facts if named else None)
        return [one], _inputs.load_requests(data, fact_token) if data else None
    facts = _inputs.load_requests(data or "atlas", fact_token)
    return facts.first(limit if data else limit or 1), facts


def _one_request(texts: dict[str, str | None]) -> EditRequest:
    for flag, text in texts.items():
        if text is None:
            raise click.UsageError(f"one edit needs {', '.join(texts)}; {flag} is missing")
        if not text.strip():
            raise click.UsageError(f"{flag}: expected a text, got {text!r}")
    prompt, subject, target = map(str, texts.values())
    fact = {"case_id": subject, "prompt": prompt, "subject": subject, "target_new": target}
    (request,) = load_edits([fact])
    if request.subject_span is None:
        near = " in the same letter case" if subject.lower() in prompt.lower() else ""
        raise click.UsageError(
            f"--subject: expected a part of the prompt {prompt!r}{near}, got {subject!r}"
        )
    return request


def _solve(
    model: EditableModel,
    requests: Sequence[EditRequest],
    facts: LoadedEdits | None,
    layer: int | None,
    proxy: int,
    seed: int,
    arguments: dict[str, Any],
) -> tuple[WeightEdit, LayerRanking | None]:
    """The edit, and what chose its layer if nothing else says one."""
    try:
        return edit(model, requests, layer=layer, **arguments), None
    except NoLayer:
        pass
    proxies = requests if facts is None else _inputs.draw_proxy(facts, proxy, seed)
    ranking = _inputs.choose_layer(model, proxies, seed, arguments)
    layers = chosen_layers(arguments["editor"], arguments["config"], int(ranking))
    change = edit(model, requests, **(arguments | layers))
    choice = {"layer_choice": dataclasses.asdict(ranking)}
    return dataclasses.replace(change, provenance=change.provenance | choice), ranking


def _write(
    model: EditableModel,
    change: WeightEdit,
    report: answers.EditReport,
    out: Path,
    merge: Path | None,
    peft: Path | None,
) -> str:
    """Write what was asked for; returns what was written where."""
    out.mkdir(parents=True, exist_ok=True)
    change.save(out / "edit.safetensors")
    write_atomic(out / "edit.json", report.to_json() + "\n")
    lines = [f"Written to {out}: edit.safetensors, edit.json"]
    return "\n".join([*lines, *_inputs.write_edited(model, change, merge, peft)])
