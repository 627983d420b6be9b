"""What the options of a command stand for: a model, edit requests, an editor's arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from lga_fast import datasets, distributed, progress, registry, select_layer, selectors
from lga_fast.commands import _field_options, _options
from lga_fast.datasets import FactToken, LoadedEdits
from lga_fast.editors import Preset, check_options, overridden
from lga_fast.errors import RanksError
from lga_fast.files import check_writable
from lga_fast.loading import load
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.reports import html as pages
from lga_fast.weight_edit import WeightEdit


def take_model(fields: dict[str, Any]) -> dict[str, Any]:
    """Take the values of `_options.model` out of a command's; for `load_model`."""
    return {name: fields.pop(name) for option in _options.model() if (name := option.name)}


def load_model(source: str, device: str | None, **how: Any) -> EditableModel:
    """The model of `_options.model`; stderr says why its weights were placed where they are.

    With several ranks, each loads the model for itself, on a CUDA device of its own if there are
    any.
    """
    ranks = distributed.current()
    if ranks.size > 1 and device == "auto":
        raise RanksError(
            f"--device auto spreads one model over all devices, but there are {ranks.size} "
            "processes: start lga-fast without torchrun, or omit --device to give each process a "
            "device of its own"
        )
    if ranks.size > 1 and device in (None, "cuda"):
        device = ranks.device
    silence_transformers()
    model = load(source, device=device, **how)
    if model.placement and ranks.is_rank_zero:
        progress.log(model.placement)
    return model


def silence_transformers() -> None:
    """Turn off transformers' log messages and progress bars; warnings are still shown."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def load_requests(data: str, fact_token: FactToken = "subject_last") -> LoadedEdits:
    """The requests of `_options.data`: a file, NAME=FILE, or an embedded data set."""
    name, _, file = data.rpartition("=")
    if not name and data in registry.names("lga_fast.datasets"):
        return datasets.load_edits(data, fact_token=fact_token)
    name, file = (name, file) if name else (datasets.of_file(data), data)
    return datasets.load_edits(name, file, fact_token=fact_token)


def draw_proxy(requests: LoadedEdits, proxy: int, seed: int) -> LoadedEdits:
    """`proxy` of the requests, drawn with `seed`; all of them if there are no more."""
    if proxy >= len(requests):
        return requests
    return requests.take(datasets.split(requests, proxy, seed).proxy_indices)


def editor_arguments(
    editor: str,
    preset: Preset,
    config: Path | None,
    layer: int | None,
    seed: int,
    fields: dict[str, Any],
) -> dict[str, Any]:
    """Arguments of `lga_fast.edit` from `_options.editing` and the editors' fields; no layer.

    The run's seed is the editor's only if the user gave it; otherwise a file may set another.

    Raises:
        DataError, EditError: as of `lga_fast.edit`, for what is wrong whatever the model is.
    """
    options = _field_options.specified(fields)
    kind = registry.member("lga_fast.editors", editor).Editor
    if _options.on_command_line("seed") and "seed" in kind.__dataclass_fields__:
        options["seed"] = seed
    check_options(editor, layer, config, options)  # before a model is loaded
    return options | {"editor": editor, "preset": preset, "config": config}


def choose_layer(
    model: EditableModel, facts: Sequence[EditRequest], seed: int, arguments: dict[str, Any]
) -> LayerRanking:
    """The layer to edit, for the editor that these arguments of `lga_fast.edit` name."""
    editor, config = arguments["editor"], arguments["config"]
    options = registry.of_member("lga_fast.editors", editor, "Editor", arguments)
    return select_layer(
        model,
        facts,
        selectors.TO_EDIT,
        seed=seed,
        editor=editor,
        preset=arguments["preset"],
        config=overridden(str(config) if config else None, options),
    )


def refuse_ranks(command: str, instead: str) -> None:
    """Refuse to run a command in several processes; raises `RanksError`."""
    if (size := distributed.current().size) > 1:
        raise RanksError(f"lga-fast {command} runs in one process, got {size}: {instead}")


def check_page(html: Path | None) -> None:
    """Refuse a page that could not be made or written, before the work; raises `LgaFastError`."""
    if html is not None:
        pages.need()
        check_writable(html)


def check_folders(*folders: str | Path | None) -> None:
    """Refuse folders that cannot be written to, before the work; raises `DataError`."""
    for folder in folders:
        if folder is not None:
            check_writable(folder, folder=True)


def write_edited(
    model: EditableModel, change: WeightEdit, merged: Path | None, peft: Path | None
) -> Iterator[str]:
    """Write an edited model and an adapter, where asked for; says after each what is where."""
    if merged:
        change.to_model(merged, model)
        yield f"Edited model and tokenizer: {merged}"
    if peft:
        change.to_peft(peft, model)
        yield f"LoRA adapter: {peft}"


def check_new(folder: Path | None) -> None:
    """Refuse a folder for an edited model that holds something; raises `UsageError`."""
    if folder and folder.is_dir() and any(folder.iterdir()):
        raise click.UsageError(f"{folder}: expected a new or empty folder")
