"""The embedding of a streamed model: only rows of the tokens in use are in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class LazyEmbedding:
    """Lets an embedding on `meta` run on those of its rows that were asked for so far.

    Args:
        embedding: an `nn.Embedding`, also of a subclass that scales what it gives.
        read: rows of the whole matrix by their numbers.
        device: where the rows shall lie.
    """

    def __init__(
        self,
        embedding: Any,
        read: Callable[[Collection[int]], Float[Tensor, "row d_model"]],
        device: torch.device,
    ) -> None:
        self._embedding, self._read, self._device = embedding, read, device
        self._place = torch.full((embedding.weight.shape[0],), -1)  # by token; -1: not read yet
        # It only says which row gets no gradient, and it may be beyond the rows that are here.
        embedding.padding_idx = None
        self._hold(torch.empty(0, embedding.weight.shape[1], dtype=embedding.weight.dtype))
        embedding.register_forward_pre_hook(self._places)

    def _places(
        self, module: nn.Module, args: tuple[Int[Tensor, "row token"]]
    ) -> tuple[Int[Tensor, "row token"]]:
        ids = args[0].cpu()
        new = ids[self._place[ids] < 0].unique()
        if len(new):
            there = len(self._embedding.weight)
            self._place[new] = torch.arange(there, there + len(new))
            rows = self._read(new.tolist()).to(self._device)
            self._hold(torch.cat([self._embedding.weight, rows]))
        return (self._place[ids].to(self._device),)

    def _hold(self, rows: Float[Tensor, "row d_model"]) -> None:
        self._embedding.weight = nn.Parameter(rows.to(self._device), requires_grad=False)
