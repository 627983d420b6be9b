"""Selectors: each member chooses the layer to edit; the folder is the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lga_fast import registry
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking


class LayerSelector(Protocol):
    """What every member's `Selector` does; its dataclass fields are its options."""

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Choose a layer for these requests; the model is left as it was."""
        ...


def select_layer(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    selector: str = "lga",
    **options: Any,
) -> LayerRanking:
    """Choose the layer to edit.

    Args:
        model: see `lga_fast.load`.
        edits: the proxy facts: requests, or dicts in EasyEdit's form.
        selector: a member of `lga_fast.selectors`.
        options: the fields of that member's `Selector`.

    Raises:
        UnknownName: no such selector, or it has no such option.

    Example:
        >>> ranking = select_layer(model, edits, tukey=1.0, scope="mlp_all")
        >>> int(ranking)
        3
    """
    return registry.configured(__name__, selector, "Selector", options).rank(model, edits)
