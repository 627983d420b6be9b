"""Editors: each member solves requests at a layer into a `WeightEdit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lga_fast import registry
from lga_fast.errors import EditError
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit


class LayerEditor(Protocol):
    """What every member's `Editor` does; its dataclass fields are its options."""

    def solve(
        self, model: EditableModel, requests: Sequence[EditRequest], layer: int
    ) -> WeightEdit:
        """The change of weights that makes the model answer the requests; it stays as it was."""
        ...


def edit(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    editor: str = "r_rome",
    *,
    layer: int,
    **options: Any,
) -> WeightEdit:
    """Solve for the change of one layer's weights that makes the model give new answers.

    Args:
        model: see `lga_fast.load`; it is left as it was.
        edits: requests, or dicts in EasyEdit's form; each needs its subject.
        editor: a member of `lga_fast.editors`.
        layer: which layer to edit, e.g. `int(ranking)`.
        options: the fields of that member's `Editor`.

    Raises:
        UnknownName: no such editor, or it has no such option.
        EditError: a request or the layer cannot be edited.

    Example:
        >>> change = edit(model, facts, "rome", layer=3)
        >>> with model.edited(change):
        ...     ...
    """
    from lga_fast.datasets import easyedit_requests

    chosen = registry.configured(__name__, editor, "Editor", options)
    requests = easyedit_requests(edits)
    if not requests:
        raise EditError("edit: expected at least one request, got none")
    if not 0 <= layer < model.layers:
        raise EditError(f"layer {layer}: {model.name} has layers 0 to {model.layers - 1}")
    for request in requests:
        if request.subject_span is None:
            raise EditError(
                f"request {request.case_id!r}: {editor} edits at the subject's last token, but the "
                f"subject {request.subject!r} is not in the prompt {request.prompt!r}"
            )
    return chosen.solve(model, requests, layer)
