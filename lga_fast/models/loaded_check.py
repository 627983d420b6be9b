"""Refusing what `lga_fast.load` has not made a model of yet."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from lga_fast.errors import LgaFastError
from lga_fast.models.editable import EditableModel


def check_loaded(model: Any) -> None:
    """Refuse what is no `EditableModel` yet; every public function that takes a model asks first.

    Raises:
        LgaFastError: it is something else; the message has the call that makes it one.
    """
    if isinstance(model, EditableModel):
        return
    call, got = "model = lga_fast.load(...)", f"a {type(model).__name__}"
    if isinstance(model, str | os.PathLike):
        call, got = f"model = lga_fast.load({os.fspath(model)!r})", f"the text {os.fspath(model)!r}"
    elif isinstance(model, nn.Module):
        call = "model = lga_fast.load(model, tokenizer)"
    raise LgaFastError(f"expected a model that lga_fast.load returned, got {got}: {call} first")
