"""Rows of context, prompt and answer, and where the subject's last token lies in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lga_fast.errors import EditError
from lga_fast.models import EditableModel
from lga_fast.models.tensor_utils import padded, wide
from lga_fast.records import EditRequest
from lga_fast.tokens import Row, target_row


@dataclass(frozen=True)
class Rows:
    """Padded token rows and where their subjects end."""

    ids: Int[Tensor, "row token"]
    subject: Int[Tensor, " row"]  # place of the subject's last token

    @property
    def places(self) -> Int[Tensor, " row"]:
        """Places of the subjects' last tokens on the flat token axis."""
        return torch.arange(len(self.ids)) * self.ids.shape[1] + self.subject


def rows_of(rows: Sequence[tuple[Sequence[int], int]]) -> Rows:
    """Pad rows, given with the place of their subject's last token."""
    ids, places = zip(*rows, strict=True)
    return Rows(padded(ids), torch.tensor(places))


def answer_row(model: EditableModel, context: str, request: EditRequest) -> tuple[Row, int]:
    """Row of context, prompt and new answer, and the place of the subject's last token."""
    assert request.subject_span is not None
    prompt = context + request.prompt
    row = target_row(model.tokenizer, prompt, request.target_new)
    last = len(context) + request.subject_span[1] - 1
    return row, token_of(model, prompt, last, row.ids[: row.start])


def token_of(model: EditableModel, text: str, character: int, ids: Sequence[int]) -> int:
    """Place of the token that holds a character of `text`, whose tokens are `ids`.

    Raises:
        EditError: the tokenizer gives no offsets, or cuts `text` otherwise before that place.
    """
    if not getattr(model.tokenizer, "is_fast", False):
        raise EditError(
            "editing needs a fast tokenizer, which tells which characters a token holds; "
            f"{type(model.tokenizer).__name__} does not"
        )
    out = model.tokenizer(text, return_offsets_mapping=True)
    holding = [i for i, (a, b) in enumerate(out["offset_mapping"]) if a <= character < b]
    place = holding[-1] if holding else -1  # the last one: a character may take several tokens
    if place >= 0 and list(out["input_ids"][: place + 1]) == list(ids[: place + 1]):
        return place
    raise EditError(
        f"the subject's last token cannot be found in {text!r}: its tokens change when the answer "
        "follows. Put a word between subject and answer."
    )


@contextmanager
def listening(model: EditableModel, layer: int, places: Tensor) -> Iterator[dict[str, Tensor]]:
    """Collect inputs (keys) and outputs of the edited matrix at flat `places`, as float32 or wider.

    A dict with `keys [row d_in]` and `outputs [row d_out]` after the forward.
    """
    found: dict[str, Tensor] = {}

    def hook(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        for name, tensor in (("keys", args[0]), ("outputs", output)):
            flat = tensor.detach().flatten(0, -2)
            found[name] = wide(flat[places.to(flat.device)])

    handle = model.matrix(layer, model.family.edited).register_forward_hook(hook)
    try:
        yield found
    finally:
        handle.remove()


def read_keys(
    model: EditableModel, layer: int, rows: Rows
) -> tuple[Float[Tensor, "row d_in"], Float[Tensor, "row d_out"]]:
    """Keys and outputs of the edited matrix at the subjects' last tokens."""
    with torch.no_grad(), model.frozen(), listening(model, layer, rows.places) as found:
        first = torch.zeros(1, dtype=torch.long)
        model.logits_at(rows.ids.to(model.device), first, first, use_cache=False)
    return found["keys"], found["outputs"]
