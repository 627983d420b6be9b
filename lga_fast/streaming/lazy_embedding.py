"""The embedding of a streamed model: only the rows of tokens in use are in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class LazyEmbedding:
    """Runs an embedding on `meta` on the rows read so far, and reads missing ones.

    Args:
        embedding: an `nn.Embedding`, or a subclass that scales its output.
        read: rows of the full matrix by token id.
        device: where the rows are kept.
    """

    def __init__(
        self,
        embedding: Any,
        read: Callable[[Collection[int]], Float[Tensor, "row d_model"]],
        device: torch.device,
    ) -> None:
        self._embedding, self._read, self._device = embedding, read, device
        self._index = torch.full((embedding.weight.shape[0],), -1)  # by token; -1: not read yet
        # It only says which row gets no gradient, and may lie beyond the rows read so far.
        embedding.padding_idx = None
        self._set_rows(torch.empty(0, embedding.weight.shape[1], dtype=embedding.weight.dtype))
        embedding.register_forward_pre_hook(self._to_indices)

    def _to_indices(
        self, module: nn.Module, args: tuple[Int[Tensor, "row token"]]
    ) -> tuple[Int[Tensor, "row token"]]:
        ids = args[0].cpu()
        new = ids[self._index[ids] < 0].unique()
        if len(new):
            known = len(self._embedding.weight)
            self._index[new] = torch.arange(known, known + len(new))
            rows = self._read(new.tolist()).to(self._device)
            self._set_rows(torch.cat([self._embedding.weight, rows]))
        return (self._index[ids].to(self._device),)

    def _set_rows(self, rows: Float[Tensor, "row d_model"]) -> None:
        self._embedding.weight = nn.Parameter(rows.to(self._device), requires_grad=False)
