"""Rows of context, prompt and answer, and the keys at their subjects' last tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lga_fast import memory
from lga_fast.forward.clean_run import Readout, Site
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.forward.patched_forward import FullForward
from lga_fast.models import EditableModel
from lga_fast.models.tensor_utils import padded, wide
from lga_fast.records import EditRequest
from lga_fast.tokens import Row, target_row, token_at

_BATCH_TOKENS = 4096  # of one forward


@dataclass(frozen=True)
class Rows:
    """Padded token rows and where their subjects end."""

    ids: Int[Tensor, "row token"]
    subject: Int[Tensor, " row"]  # index of the subject's last token

    @property
    def places(self) -> Int[Tensor, " row"]:
        """Indices of the subjects' last tokens on the flat token axis."""
        return torch.arange(len(self.ids)) * self.ids.shape[1] + self.subject


def rows_of(rows: Sequence[tuple[Sequence[int], int]]) -> Rows:
    """Pad rows, each given with the index of its subject's last token."""
    ids, places = zip(*rows, strict=True)
    return Rows(padded(ids), torch.tensor(places))


def answer_row(model: EditableModel, context: str, request: EditRequest) -> tuple[Row, int]:
    """Row of context, prompt and new answer, and the index of the subject's last token."""
    assert request.subject_span is not None
    prompt = context + request.prompt
    row = target_row(model.tokenizer, prompt, request.target_new)
    last = len(context) + request.subject_span[1] - 1
    return row, token_at(model.tokenizer, prompt, last, row.ids[: row.start])


@contextmanager
def capture_keys(model: EditableModel, layer: int, places: Tensor) -> Iterator[dict[str, Tensor]]:
    """Capture inputs (keys) and outputs of the edited matrix at flat `places`.

    Yields a dict that the forward inside fills with `keys [row d_in]` and `outputs [row d_out]`, in
    float32 or wider.
    """
    captured: dict[str, Tensor] = {}

    def hook(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        for name, tensor in (("keys", args[0]), ("outputs", output)):
            flat = tensor.detach().flatten(0, -2)
            captured[name] = wide(flat[places.to(flat.device)])

    handle = model.matrix(layer, model.family.edited).register_forward_hook(hook)
    try:
        yield captured
    finally:
        handle.remove()


def read_keys(
    model: EditableModel, layer: int, rows: Rows
) -> tuple[Float[Tensor, "row d_in"], Float[Tensor, "row d_out"]]:
    """Keys and outputs of the edited matrix at the subjects' last tokens."""
    with torch.no_grad(), model.frozen(), capture_keys(model, layer, rows.places) as seen:
        first = torch.zeros(1, dtype=torch.long)
        model.logits_at(rows.ids.to(model.device), first, first, use_cache=False)
    return seen["keys"], seen["outputs"]


def read_contexts(
    model: EditableModel,
    layer: int,
    target: tuple[int, Site],
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
) -> tuple[Float[Tensor, "request context d_in"], Float[Tensor, "request d_out"]]:
    """Keys of `layer` behind every context, and what `target` outputs for the bare prompt.

    Args:
        model: read as it is now.
        layer: of the keys.
        target: layer and site of the output, not below `layer`.
        requests: each with its subject's span.
        contexts: the first is empty.
    """
    answers = [answer_row(model, context, r) for r in requests for context in contexts]
    rows = [(row.ids[: at + 1], at) for row, at in answers]  # attention is causal
    value_layer, site = target
    captured: dict[int, tuple[Tensor, Tensor]] = {}
    for batch in memory.batches({i: len(ids) for i, (ids, _) in enumerate(rows)}, _BATCH_TOKENS):
        part = rows_of([rows[i] for i in batch])
        first = torch.zeros(1, dtype=torch.long)
        reads = Readout(part.ids, part.subject, first, part.subject[:1])
        with (
            model.frozen(),
            fast_gelu(model.hf),
            capture_keys(model, layer, part.places) as seen,
        ):
            outputs = FullForward(model, value_layer, reads, (site,)).initial[site]
        captured |= zip(batch, zip(seen["keys"], wide(outputs), strict=True), strict=True)
    keys, outputs = (torch.stack([captured[i][k] for i in range(len(rows))]) for k in (0, 1))
    return keys.unflatten(0, (-1, len(contexts))), outputs[:: len(contexts)]
