"""A model with an edit in its weights, as a folder of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lga_fast.models import EditableModel
from lga_fast.weight_edit import WeightEdit


def save_merged(model: EditableModel, change: WeightEdit, folder: Path) -> None:
    """Write edited model and tokenizer into `folder`, for plain `from_pretrained`; all or nothing.

    The model itself stays as it was. `folder` may be there if it is empty.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        with model.edited(change):
            model.hf.save_pretrained(beside)
        model.tokenizer.save_pretrained(beside)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
