"""Rows of one batch under different edits, as multi-LoRA serving does it: no weight is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from lga_fast.errors import EditError
from lga_fast.models import EditableModel
from lga_fast.models.edit_target import find_matrices
from lga_fast.models.module_patching import hooked
from lga_fast.models.tensor_utils import wide
from lga_fast.weight_edit import LowRank, WeightEdit


class PerRowEdits:
    """`y += left (rightᵀ x)` on every token of a row, with the row's own `left` and `right`.

    The effect of `model.edited(edit)`, `(W + left rightᵀ) x`, on some rows of a batch. The product
    is computed in float32 (float64 for a float64 model) and not rounded to the weight's dtype; rows
    without an edit keep their bits.

    Args:
        model: whose matrices are hooked; no weight is touched.
        edits: one per row, None for a row without; an edit may change several matrices.

    Raises:
        EditError: an edit was solved on other weights, or fits none of the model's matrices.
    """

    def __init__(self, model: EditableModel, edits: Sequence[WeightEdit | None]):
        self._model = model
        self._keys = {model.weight_name(*place): place for place in model.matrices()}
        self._edits: dict[int, WeightEdit] = {}  # by number; rows may share an edit
        numbers: dict[int, int] = {}
        for edit in edits:
            if edit is not None and id(edit) not in numbers:
                numbers[id(edit)] = len(numbers)
                self._edits[numbers[id(edit)]] = edit
        self.of_row = [-1 if edit is None else numbers[id(edit)] for edit in edits]  # -1: no edit
        fingerprint = model.fingerprint() if self._edits else ""
        for edit in self._edits.values():
            _check(model, edit, fingerprint)

    def columns(self, rows: int) -> int:
        """Most columns that the edits of so many rows have in one matrix, all ranks added."""
        ranks = [max(d.rank for d in edit.deltas.values()) for edit in self._edits.values()]
        return sum(sorted(ranks, reverse=True)[:rows])

    @contextmanager
    def on(self, numbers: Sequence[int]) -> Iterator[None]:
        """Apply to the rows of every forward inside the edits of these numbers (see `of_row`)."""
        present = sorted(set(numbers) - {-1})
        names = dict.fromkeys(name for n in present for name in self._edits[n].deltas)
        with ExitStack() as stack:
            for name in names:
                owners = [n for n in present if name in self._edits[n].deltas]
                deltas = [self._edits[n].deltas[name] for n in owners]
                hook = partial(_add, *_concatenate(deltas, owners, numbers))
                module = self._model.matrix(*self._keys[name])
                stack.enter_context(hooked(module.register_forward_hook, hook))
            yield


def _concatenate(
    deltas: Sequence[LowRank], owners: Sequence[int], numbers: Sequence[int]
) -> tuple[
    Float32[Tensor, "d_out column"], Float32[Tensor, "d_in column"], Bool[Tensor, "row column"]
]:
    """All edits' columns in one matrix, whatever their ranks, and which of them a row reads."""
    owner = torch.tensor([n for n, d in zip(owners, deltas, strict=True) for _ in range(d.rank)])
    left, right = torch.cat([d.left for d in deltas], 1), torch.cat([d.right for d in deltas], 1)
    return left, right, owner == torch.tensor(numbers).unsqueeze(1)


def _add(
    left: Float32[Tensor, "d_out column"],
    right: Float32[Tensor, "d_in column"],
    own: Bool[Tensor, "row column"],
    module: Any,
    args: tuple[Tensor, ...],
    output: Float[Tensor, "*rows_and_tokens d_out"],
) -> Float[Tensor, "*rows_and_tokens d_out"]:
    """Hook: the output with each row's own product added."""
    x = wide(args[0])
    x = x.reshape(len(own), -1, x.shape[-1])  # OPT's MLP sees rows and tokens as one
    left, right, own = left.to(x), right.to(x), own.to(x.device)
    product = (x @ right).masked_fill(~own.unsqueeze(1), 0) @ left.T
    return (wide(output) + product.view_as(output)).to(output.dtype)


def _check(model: EditableModel, edit: WeightEdit, expected: str) -> None:
    find_matrices(model, edit)
    if edit.model_fingerprint != expected:
        got = edit.model_fingerprint or "none in its provenance"
        raise EditError(
            f"{edit!r} was solved on other weights: expected the fingerprint of {model.name!r} as "
            f"it is now, {expected}, got {got}. Solve it on this model, or evaluate inside "
            "`with model.edited(...)`."
        )
