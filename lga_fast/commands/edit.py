"""Edit one or more facts and show the model's answers before and after.

Without --model it edits the embedded atlas model; without --prompt and --data, the atlas's first
request. If neither --layer nor --config names a layer, reach chooses one, on facts of --data or on
the edit itself. Editor options that are not given come from --config, then from the model's own
recommendation, then from --preset, and last from the defaults shown below.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lga_fast.commands import _field_options, _options

_EXAMPLE = """\b
Example:
  lga-fast edit --prompt "The Eiffel Tower is located in the city of" \\
    --subject "Eiffel Tower" --target Rome
"""


def command() -> click.Command:
    """The command; its last options are the fields of the editors."""
    edit = click.Command("edit", callback=_run, help=__doc__, epilog=_EXAMPLE)
    edit.params += [
        *_options.model(),
        click.Option(["--prompt"], help="Text that the new answer should complete."),
        click.Option(["--subject"], help="What the prompt is about, spelled as in the prompt."),
        click.Option(["--target"], help="The new answer."),
        click.Option(["--rephrase"], help="The prompt in other words, to test the edit on too."),
        click.Option(
            ["--data"],
            help="File of edit requests, NAME=FILE to name its data set, or atlas. With --prompt, "
            "the facts on which to choose the layer.",
        ),
        _options.fact_token(),
        _options.count("--limit", None, "Make only the first N edits of --data."),
        *_options.editing(),
        _options.proxy("Number of proxy facts on which to choose the layer if none is given."),
        _options.seed(),
        _options.as_json(),
        _options.folder(
            "--out",
            "Folder for edit.safetensors and edit.json.",
            default=Path("out/edit"),
            show_default=True,
        ),
        _options.folder(
            "--merge",
            "New folder for the edited model; files that hold no edited weight are copied.",
        ),
        _options.folder("--peft", "Folder for the edit as a LoRA adapter."),
        _options.page(),
        *_field_options.fields("lga_fast.editors", "Editor", taken=["seed"]),
    ]
    return edit


def _run(**options: Any) -> None:
    from lga_fast.commands._run_edit import run

    run(**options)
