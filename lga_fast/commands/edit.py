"""Edit one fact or many, and show what the model answers before and after.

Without --model it edits the embedded atlas, without --prompt and --data the atlas's first request.
Without --layer, and without one in --config, the layer is chosen by lga. An editor's options that
are not given are those of --config, of the model's own advice, of --preset, or else as shown here.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from lga_fast import atlas, select_layer
from lga_fast.commands import _inputs, _options, _ranks
from lga_fast.datasets import LoadedEdits
from lga_fast.editors import Preset, edit, verbose_costs
from lga_fast.errors import NoLayer
from lga_fast.files import write_atomic
from lga_fast.loading import Weights
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, find_subject
from lga_fast.reports import answers, answers_table
from lga_fast.weight_edit import WeightEdit

_EXAMPLE = """\b
Example:
  lga-fast edit --prompt "The Eiffel Tower is located in the city of" \\
    --subject "Eiffel Tower" --target Rome
"""


def command() -> click.Command:
    """The command; its last options are the fields of the editors."""
    made = click.Command("edit", callback=_run, help=__doc__, epilog=_EXAMPLE)
    made.params += [
        *_options.model(),
        _options.weights(),
        click.Option(["--prompt"], help="Text that the new answer shall follow."),
        click.Option(["--subject"], help="What the prompt is about, as it is written there."),
        click.Option(["--target"], help="The new answer."),
        click.Option(["--rephrase"], help="The prompt in other words, to ask that too."),
        click.Option(
            ["--data"],
            help="File of edits to make, NAME=FILE to say which data set it is, or atlas; with "
            "--prompt only the facts to choose the layer on.",
        ),
        click.Option(
            ["--limit"], type=click.IntRange(min=1), help="Make only the first so many of --data."
        ),
        *_options.editing(),
        _options.proxy("Number of proxy facts to choose the layer on, where none is given."),
        _options.seed(),
        _options.as_json(),
        _options.folder(
            "--out",
            "Folder for edit.safetensors and edit.json.",
            default=Path("out/edit"),
            show_default=True,
        ),
        _options.folder(
            "--merge", "New folder for the edited model; files without an edited weight are copied."
        ),
        _options.folder("--peft", "Folder for the edit as a LoRA adapter."),
        *_options.fields("lga_fast.editors", "Editor", taken=["seed"]),
    ]
    return made


def _run(
    source: str,
    device: str | None,
    dtype: str | None,
    memory_budget: str | None,
    weights: Weights,
    prompt: str | None,
    subject: str | None,
    target: str | None,
    rephrase: str | None,
    data: str | None,
    limit: int | None,
    editor: str,
    preset: Preset,
    config: Path | None,
    layer: int | None,
    proxy: int,
    seed: int,
    as_json: bool,
    out: Path,
    merge: Path | None,
    peft: Path | None,
    **fields: Any,
) -> None:
    _ranks.alone("edit", "start it without torchrun")
    if merge and merge.is_dir() and any(merge.iterdir()):
        raise click.UsageError(f"--merge {merge}: expected a new or an empty folder")
    for flag, other in (("--out", out), ("--peft", peft)):
        if merge and other and other.resolve().is_relative_to(merge.resolve()):
            raise click.UsageError(f"{flag} {other}: expected a folder outside of --merge {merge}")
    requests, facts = _requests(source, prompt, subject, target, data, limit)
    if rephrase is not None and len(requests) > 1:
        raise click.UsageError(f"--rephrase is for one request, there are {len(requests)}")
    how = _inputs.editing(editor, preset, config, seed, fields)
    model = _inputs.model(source, device, dtype, memory_budget, weights)
    if model.placement:
        click.echo(model.placement, err=True)
    with verbose_costs(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        change = _solve(model, requests, facts, layer, proxy, seed, how)
    notes = [str(warning.message) for warning in caught]
    notes += change.provenance["config_report"]["notes"]
    notes = list(dict.fromkeys(notes))
    report = answers.compare(model, requests, change, rephrase=rephrase, seed=seed, notes=notes)
    written = _write(model, change, report, out, merge, peft)
    if as_json:
        click.echo(report.to_json())
    else:
        answers_table.show(report, Console())
        click.echo(written)


def _requests(
    source: str,
    prompt: str | None,
    subject: str | None,
    target: str | None,
    data: str | None,
    limit: int | None,
) -> tuple[Sequence[EditRequest], LoadedEdits | None]:
    """What to edit, and the facts to choose a layer on if there are any."""
    of_atlas = source in {"atlas", *(f"atlas-{arch}" for arch in atlas.MODELS)}
    if (prompt, subject, target) != (None, None, None):
        if limit:
            raise click.UsageError("--limit counts requests of --data; --prompt gives one already")
        one = _one_request({"--prompt": prompt, "--subject": subject, "--target": target})
        data = data or ("atlas" if of_atlas else None)
        return [one], _inputs.edits(data) if data else None
    facts = _inputs.edits(data or "atlas")
    return facts.first(limit if data else limit or 1), facts


def _one_request(texts: dict[str, str | None]) -> EditRequest:
    for flag, text in texts.items():
        if text is None:
            raise click.UsageError(f"one edit needs {', '.join(texts)}; {flag} is missing")
        if not text.strip():
            raise click.UsageError(f"{flag}: expected a text, got {text!r}")
    prompt, subject, target = map(str, texts.values())
    span = find_subject(prompt, subject)
    if span is None:
        near = " in the same letter case" if subject.lower() in prompt.lower() else ""
        raise click.UsageError(
            f"--subject: expected a part of the prompt {prompt!r}{near}, got {subject!r}"
        )
    return EditRequest(subject, prompt, target, subject, span)


def _solve(
    model: EditableModel,
    requests: Sequence[EditRequest],
    facts: LoadedEdits | None,
    layer: int | None,
    proxy: int,
    seed: int,
    how: dict[str, Any],
) -> WeightEdit:
    """The edit; where nothing says its layer, at the one that lga chooses."""
    try:
        return edit(model, requests, layer=layer, **how)
    except NoLayer:
        if facts is None:
            raise NoLayer(
                "no layer to edit: give --layer N, a --config with `layers: [N]`, or --data FILE "
                "with facts of which lga chooses one"
            ) from None
    ranking = select_layer(model, _inputs.proxy_facts(facts, proxy, seed), seed=seed)
    change = edit(model, requests, layer=int(ranking), **how)
    choice = {"layer_choice": dataclasses.asdict(ranking)}
    return dataclasses.replace(change, provenance=change.provenance | choice)


def _write(
    model: EditableModel,
    change: WeightEdit,
    report: answers.EditReport,
    out: Path,
    merge: Path | None,
    peft: Path | None,
) -> str:
    """Write what was asked for; says what and where."""
    out.mkdir(parents=True, exist_ok=True)
    change.save(out / "edit.safetensors")
    write_atomic(out / "edit.json", report.to_json() + "\n")
    said = f"Written to {out}: edit.safetensors, edit.json"
    if merge:
        change.to_model(merge, model)
        said += f"\nEdited model and tokenizer: {merge}"
    if peft:
        change.to_peft(peft, model)
        said += f"\nLoRA adapter: {peft}"
    return said
