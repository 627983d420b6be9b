"""Forwards that start in the middle of a recorded one: at a block, and at a token of each row.

What lies below the block or before the token comes from the recorded forward: hidden states, and
the keys and values of earlier tokens. Attention is causal, so a whole forward with a change from
there on would compute the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lga_fast.forward.packed_suffix import PackedSuffix, supports_custom_attention
from lga_fast.forward.prefix_attention import PrefixCache
from lga_fast.forward.token_subset import at_tokens, last_mlp
from lga_fast.models.editable import EditableModel
from lga_fast.models.kv_cache import CACHE
from lga_fast.models.module_patching import (
    change_output,
    hooked,
    patched_forwards,
    skip_block,
    tuple_length,
)


class RecordedForward:
    """One forward of token rows, recorded where later forwards will start.

    Args:
        model: frozen by the caller (`model.frozen()`), and so are gradients (`torch.no_grad()`).
        ids: the rows, padded on the right.
        blocks: where later forwards may start.
    """

    def __init__(
        self, model: EditableModel, ids: Int[Tensor, "row token"], blocks: Collection[int]
    ) -> None:
        self.model, self.ids, self.blocks = model, ids.to(model.device), sorted(blocks)
        self._block_inputs: dict[int, Float[Tensor, "row token d_model"]] = {}
        self._embedding = model.hf.get_input_embeddings()
        self._embedded = torch.empty(0)  # [row token d_model], with what hooks added
        self._form = 0  # length of the tuple that a block returns; 0: it returns a tensor
        # Without masks of four axes, or with a sliding window, a row starts at its first token.
        short = ids.shape[1] <= model.window
        self._cache = PrefixCache(self.blocks[0]) if model.takes_masks and short else None

    def run(
        self, rows: Int[Tensor, " position"], tokens: Int[Tensor, " position"]
    ) -> Float[Tensor, "position vocab"]:
        """Run the whole forward, hooks included, and record it; logits at these positions."""

        def enter(block: int, module: nn.Module, args: tuple[Any, ...]) -> None:
            self._block_inputs[block] = args[0]

        def embed(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            self._embedded = output

        def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._form = tuple_length(output)

        part = self.model.part
        with ExitStack() as stack:
            stack.enter_context(hooked(self._embedding.register_forward_hook, embed))
            for block in self.blocks if self.model.restarts else ():
                hook = partial(enter, block)
                stack.enter_context(hooked(part(block, "block").register_forward_pre_hook, hook))
            stack.enter_context(hooked(part(0, "block").register_forward_hook, leave))
            inputs = {CACHE: self._cache, "use_cache": self._cache is not None}
            return self.model.logits_at(self.ids, rows, tokens, **inputs)[0]

    @property
    def starts_at_tokens(self) -> bool:
        """Whether a run may start after a row's first token."""
        return self._cache is not None

    def first(self, token: int) -> int:
        """Where a run starts whose first changed token is `token`."""
        return token if self.starts_at_tokens else 0

    def run_from(
        self,
        block: int,
        rows: Int[Tensor, " run"],
        start: Int[Tensor, " run"],
        reads: tuple[Int[Tensor, " position"], Int[Tensor, " position"]],
        on_output: Mapping[nn.Module, Callable[[Tensor], Tensor]] | None = None,
        forwards: Mapping[nn.Module, Callable[..., Any]] | None = None,
        on_hidden: Callable[[Tensor], Tensor] = lambda hidden: hidden,
    ) -> Float[Tensor, "position vocab"]:
        """Logits at chosen positions of runs that continue recorded rows.

        Args:
            block: where the forward starts, one of `blocks`.
            rows: the recorded row that each run continues.
            start: each run's first token, as `first` says.
            reads: runs and their tokens whose logits are wanted; here and below, tokens are
                counted from `start`.
            on_output: of a module in or after `block`, what replaces its output [run token d].
            forwards: of a module in or after `block`, what it runs instead of its own forward.
            on_hidden: see `EditableModel.logits_at`.
        """
        positions = start.unsqueeze(1) + torch.arange(int(reads[1].max()) + 1)
        positions = positions.clamp(max=self.ids.shape[1] - 1).to(self.model.device)
        inputs: dict[str, Any] = {"use_cache": False}
        if self._cache is not None:
            inputs = self._cache.inputs(rows, start, positions, self.model.dtype)
        forwards, last = dict(forwards or {}), last_mlp(self.model)
        if last and not ({last, *last.modules()} & {*forwards, *(on_output or {})}):
            read = reads[0] * positions.shape[1] + reads[1]
            forwards[last] = partial(at_tokens, last.forward, read, None)
        runs = rows.to(positions.device).unsqueeze(1)
        return self._continue_from(
            block, runs, positions, reads, on_output or {}, forwards, on_hidden, inputs
        )

    @property
    def can_pack(self) -> bool:
        """Whether rows can share one token axis; see `packed_suffix`."""
        return self.starts_at_tokens and supports_custom_attention(self.model)

    def packed_suffix(
        self,
        block: int,
        rows: Int[Tensor, " run"],
        start: Int[Tensor, " run"],
        reads: tuple[Int[Tensor, " position"], Int[Tensor, " position"]],
    ) -> PackedSuffix:
        """The runs of a `run_from` on one token axis, for `run_packed_from`; same arguments."""
        assert self._cache is not None
        return PackedSuffix(self.model, block, self._cache.states, rows, start, reads)

    def run_packed_from(
        self,
        block: int,
        suffix: PackedSuffix,
        on_output: Mapping[nn.Module, Callable[[Tensor], Tensor]],
        forwards: Mapping[nn.Module, Callable[..., Any]],
        on_hidden: Callable[[Tensor], Tensor] = lambda hidden: hidden,
    ) -> Float[Tensor, "position vocab"]:
        """`run_from`, but outputs are [1 token d] and changes at runs' first tokens only."""
        device = self.model.device
        reads = torch.zeros_like(suffix.reads), suffix.reads
        positions = suffix.positions.unsqueeze(0).to(device)
        last = last_mlp(self.model)
        with suffix.running() as replacements:
            if last and not ({last, *last.modules()} & {*forwards, *on_output}):
                replacements[last] = suffix.where_read(last)
            inputs = {"position_ids": positions, "use_cache": False}
            runs = suffix.rows.unsqueeze(0).to(device)
            forwards = {**forwards, **replacements}
            return self._continue_from(
                block, runs, positions, reads, on_output, forwards, on_hidden, inputs
            )

    def _continue_from(
        self,
        block: int,
        rows: Int[Tensor, ...],
        positions: Int[Tensor, "run token"],
        reads: tuple[Int[Tensor, " position"], Int[Tensor, " position"]],
        on_output: Mapping[nn.Module, Callable[[Tensor], Tensor]],
        forwards: dict[nn.Module, Callable[..., Any]],
        on_hidden: Callable[[Tensor], Tensor],
        inputs: Mapping[str, Any],
    ) -> Float[Tensor, "position vocab"]:
        """Logits of a forward of these tokens of recorded rows, from `block` on."""
        model = self.model

        def recorded(hidden: Float[Tensor, "row token d_model"]) -> Tensor:
            return hidden[rows.to(hidden.device), positions.to(hidden.device)]

        with ExitStack() as stack:
            for module, change in on_output.items():
                hook = partial(change_output, positions.shape, change)
                stack.enter_context(hooked(module.register_forward_hook, hook))
            # Blocks may be handed more that follows from the embedding, e.g. inputs for each layer.
            embedded = recorded(self._embedded)
            embed = self._embedding.register_forward_hook
            stack.enter_context(hooked(embed, lambda module, args, out: embedded))
            if model.restarts:  # else every run starts at the embedding
                hidden = recorded(self._block_inputs[block])
                enter = model.part(block, "block").register_forward_pre_hook
                stack.enter_context(hooked(enter, lambda module, args: (hidden, *args[1:])))
                skip = partial(skip_block, self._form)
                forwards = {model.part(i, "block"): skip for i in range(block)} | forwards
            stack.enter_context(patched_forwards(forwards))
            return model.logits_at(self.ids[rows, positions], *reads, on_hidden, **inputs)[0]
