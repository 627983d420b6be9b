"""Put one or more edits into a model: a folder to serve, an adapter, or one edit for all.

EDITS are files that `lga-fast edit` or WeightEdit.save wrote, in the order in which they were made:
each of the model itself, or of the model with those before it. Others are refused.
"""

from __future__ import annotations

from typing import Any

import click

from lga_fast.commands import _options


def command() -> click.Command:
    """The command."""
    apply = click.Command("apply", callback=_run, help=__doc__)
    apply.params += [
        _options.edits(),
        *_options.model(),
        _options.folder("--out", "New folder for model and tokenizer with the edits."),
        _options.folder("--peft", "Folder for the edits as one LoRA adapter."),
        _options.file("--combined", "File for the edits as one."),
    ]
    return apply


def _run(**options: Any) -> None:
    from lga_fast.commands._run_serving import apply

    apply(**options)
