"""Ends of recorded rows, one after another on one token axis, and what each of them attends to.

Modules that see every token alone run on all of them at once, and nothing is padded. Attention is
taken row by row: over a row's own tokens, and keys and values that were recorded before them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Conv1D
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lga_fast.forward.packed_attention import AttentionSpec, Queries, VarlenAttention
from lga_fast.models.editable import EditableModel
from lga_fast.models.tensor_utils import additive_mask, wide

Given = Mapping[int, tuple[Tensor, Tensor]]  # by block, keys and values [row head token d_head]

_NAME = "lga_fast_tails"  # of the attention, for the time of a forward


def supports_custom_attention(model: EditableModel) -> bool:
    """Whether the model's attention is a function that can be another one for a while."""
    attention = model.part(0, "attention")
    asks = getattr(sys.modules[type(attention).__module__], "ALL_ATTENTION_FUNCTIONS", None)
    has = hasattr(attention, "config") and hasattr(attention, "layer_idx")
    return model.takes_masks and asks is ALL_ATTENTION_FUNCTIONS and has and not model.recomputes


class PackedSuffix:
    """Tokens of recorded rows, from each row's first one that runs to its last one that is read.

    `run` and `token`: of each; `rows` and `places`: where it was recorded. Here, places are on the
    one token axis otherwise.

    Args:
        model: frozen by the caller.
        block: where the forward begins.
        given: keys and values of the recorded rows, of all blocks after `block`.
        rows: the recorded row that each run goes on from.
        begin: each run's first token.
        reads: runs and their tokens that are read, counted from `begin`.
    """

    def __init__(
        self,
        model: EditableModel,
        block: int,
        given: Given,
        rows: Int[Tensor, " run"],
        begin: Int[Tensor, " run"],
        reads: tuple[Int[Tensor, " read"], Int[Tensor, " read"]],
    ) -> None:
        run, token = reads
        count = torch.zeros_like(begin).scatter_reduce(0, run, token + 1, "amax")
        self.run = torch.arange(len(rows)).repeat_interleave(count)
        self.first = count.cumsum(0) - count  # place of each run's first token
        self.token = torch.arange(len(self.run)) - self.first[self.run]
        self.reads = self.first[run] + token
        self.rows, self.places = rows[self.run], begin[self.run] + self.token
        self._model, self._given, self._rows, self._begin = model, given, rows, begin
        self._before: dict[int, Sequence[Tensor]] = {}  # of `given`, what the runs see
        self._all = self._queries(torch.arange(len(self.run)))
        self._read = self._queries(self.reads.unique())
        self._last = model.layers - 1
        self._next = min(block + 1, self._last)
        self._attended: set[int] = set()
        self._known: dict[nn.Module, Tensor] | None = None  # None: nothing has run yet
        self._late: list[nn.Module] = []

    @contextmanager
    def running(self) -> Iterator[dict[nn.Module, Callable[..., Any]]]:
        """One forward of the tails; what modules shall run in it instead of their own forward.

        Where a change at the tails' first tokens enters the block after the changed one, the inputs
        of its attention are as before at all other tokens, and so is what its linear modules make
        of them: it is kept from the first forward. In the last block, whatever comes after the
        attention's mixing counts only where it is read.
        """
        config = self._model.part(0, "attention").config
        own = config._attn_implementation
        self._attended.clear()
        with ExitStack() as stack:
            if self._known is None:
                self._known = {}
                for module in {*self._linear(self._next), *self._linear(self._last)}:
                    stack.callback(module.register_forward_hook(self._see).remove)
                instead = {}
            else:
                instead = {
                    module: partial(at_places, module.forward, self.first, known)
                    for module, known in self._known.items()
                }
                instead |= {module: self.where_read(module) for module in self._late}
            ALL_ATTENTION_FUNCTIONS[_NAME] = self._attend
            config._attn_implementation = _NAME
            try:
                yield instead
            finally:
                config._attn_implementation = own
                del ALL_ATTENTION_FUNCTIONS[_NAME]

    def where_read(self, module: nn.Module) -> Callable[..., Any]:
        """Forward of a module that sees every token alone, where it is read."""
        return partial(at_places, module.forward, self._read.place, None)

    def _linear(self, block: int) -> list[nn.Module]:
        attention = self._model.part(block, "attention")
        return [m for m in attention.modules() if isinstance(m, (nn.Linear, Conv1D))]

    def _see(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if self._next not in self._attended:
            assert self._known is not None
            self._known[module] = output.detach()
        elif self._last in self._attended:
            self._late.append(module)

    def _queries(self, place: Int[Tensor, " query"]) -> Queries:
        """Tokens that ask, given in ascending order."""
        run = self.run[place]
        count = run.bincount(minlength=len(self._rows))
        column = torch.arange(len(place)) - (count.cumsum(0) - count)[run]
        width = int(count.max())
        padded = self.first.unsqueeze(1).repeat(1, width)
        padded[run, column] = place
        before = torch.arange(int(self._begin.max())) >= self._begin.view(-1, 1, 1)
        after = torch.arange(int(self.token.max()) + 1) > self.token[padded].unsqueeze(2)
        hidden = torch.cat([before.expand(-1, width, -1), after], 2)
        model, device = self._model, self._model.device
        mask = additive_mask(hidden, wide(torch.empty(0, dtype=model.dtype)).dtype)
        return Queries(
            place.to(device),
            padded.to(device),
            (run * width + column).to(device),
            mask.unsqueeze(1).to(device),
        )

    def _attend(
        self,
        module: Any,
        query: Float[Tensor, "1 head token d_head"],
        key: Float[Tensor, "1 key_head token d_head"],
        value: Float[Tensor, "1 key_head token d_value"],
        mask: Tensor | None,
        scaling: float | None = None,
        softcap: float | None = None,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "1 token head d_value"], None]:
        """Attention, in transformers' form; a query that asks for nothing gives zeros."""
        block = module.layer_idx
        self._attended.add(block)
        asks = self._read if block == self._last else self._all
        seen = self._seen(block, query.device)
        here = asks.to(query.device), self._all.to(query.device)
        how = AttentionSpec(*here, scaling or query.shape[-1] ** -0.5, softcap)
        if not torch.is_grad_enabled():  # a graph that is not done with yet may hold them
            seen = [x.clone() for x in seen]
        return VarlenAttention.apply(query, key, value, *seen, how), None

    def _seen(self, block: int, device: torch.device) -> Sequence[Tensor]:
        """Keys and values [run key_head token d_head], with room for the runs' own at the end."""
        if block not in self._before:
            width, own = int(self._begin.max()), self._all.padded.shape[1]
            before = (wide(x[:, :, :width][self._rows.to(device)]) for x in self._given[block])
            self._before[block] = [nn.functional.pad(x, (0, 0, 0, own)) for x in before]
        return self._before[block]


def at_places(
    forward: Callable[[Tensor], Tensor],
    place: Int[Tensor, " place"],
    known: Tensor | None,
    hidden: Float[Tensor, "*rows d"],
) -> Float[Tensor, "*rows d_out"]:
    """Forward of a module that sees every token alone, at some of them; elsewhere as `known`.

    None: zeros, where nobody reads it.
    """
    place = place.to(hidden.device)
    flat = hidden.flatten(0, -2)
    picked = flat.index_select(0, place)
    found = forward(picked if hidden.ndim == 2 else picked.unsqueeze(0)).flatten(0, -2)
    whole = found.new_zeros(len(flat), found.shape[-1]) if known is None else known.flatten(0, -2)
    return whole.index_copy(0, place, found).view(*hidden.shape[:-1], -1)
