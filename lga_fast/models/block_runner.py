"""Running a model block by block."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lga_fast.errors import UnsupportedModel
from lga_fast.models.module_patching import (
    EndOfForward,
    patched_forwards,
    tuple_length,
    unwrap_output,
    wrap_output,
)
from lga_fast.models.structure import ModelStructure
from lga_fast.models.tensor_utils import grad_mode


class BlockRunner:
    """Runs a model one block at a time.

    Args:
        model: frozen by the caller (`model.frozen()`) whenever this runs.
        walk: yields each of the given layers while its weights are in memory, and is told whether
            the head comes next; default: all weights always are.
        head: the head's weights are in memory while inside.
    """

    def __init__(
        self,
        model: ModelStructure,
        walk: Callable[[Iterable[int], bool], Iterator[int]] = lambda layers, to_head: iter(layers),
        head: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._model, self._walk, self._head = model, walk, head
        self._blocks = [model.part(i, "block") for i in range(model.layers)]
        self._form: int | None = None  # length of the tuple that a block returns; 0: a tensor

    def check(self) -> None:
        """Run one token as far as it takes to find out whether blocks can run one at a time.

        Raises:
            UnsupportedModel: the model does something to the hidden states between its blocks.
        """
        with closing(self.walk([0])) as walk:
            next(walk)
            self.record(self._one_token())

    def walk(self, layers: Iterable[int], to_head: bool = False) -> Generator[int]:
        """Each of these layers while its weights are in memory; `to_head`: the head comes next.

        Close it (`contextlib.closing`), so that an exception leaves no weights behind.
        """
        for layer in self._walk(layers, to_head):
            if self._form is None:
                self._learn_form(self._blocks[layer])
            yield layer

    def head(self) -> AbstractContextManager[None]:
        """The head's weights are in memory while inside."""
        return self._head()

    def record(self, inputs: Mapping[str, Any]) -> BlockInputs:
        """What a forward hands to the blocks, which do not run; inside `walk`.

        A block's first argument is the hidden states, whatever else it takes.

        Raises:
            UnsupportedModel: the model does something to the hidden states between its blocks.
        """
        assert self._form is not None
        with grad_mode(False):
            return record_block_inputs(
                self._model.hf, self._blocks, self._form, inputs, len(self._blocks)
            )

    def run(
        self, layer: int, hidden: Float[Tensor, "row token d_model"], call: BlockInputs
    ) -> Float[Tensor, "row token d_model"]:
        """Run the block that `walk` is at."""
        args, kwargs = call.others[layer]
        return unwrap_output(self._blocks[layer](hidden, *args, **kwargs))

    @contextmanager
    def after_blocks(self, hidden: Float[Tensor, "row token d_model"]) -> Iterator[None]:
        """Forwards (`logits_at`) go on from these outputs of the last block while inside."""
        assert self._form is not None
        form = self._form

        def hand_on(first: Tensor, *args: Any, **kwargs: Any) -> Any:
            return wrap_output(hidden, form)

        with patched_forwards(dict.fromkeys(self._blocks, hand_on)):
            yield

    def _learn_form(self, block: nn.Module) -> None:
        with grad_mode(False):
            first = record_block_inputs(self._model.hf, self._blocks, 0, self._one_token(), 1)
            args, kwargs = first.others[0]
            self._form = tuple_length(block(first.hidden, *args, **kwargs))

    def _one_token(self) -> dict[str, Any]:
        token = torch.zeros(1, 1, dtype=torch.long, device=self._model.device)
        return {"input_ids": token, "use_cache": False}


@dataclass(frozen=True)
class BlockInputs:
    """What the model's own forward hands to its blocks, for one batch."""

    hidden: Float[Tensor, "row token d_model"]  # entering the first block
    others: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]  # by block: all else


def record_block_inputs(
    hf: Any, blocks: Sequence[nn.Module], form: int, inputs: Mapping[str, Any], until: int
) -> BlockInputs:
    """Run a model's forward with blocks that hand on what they get.

    Args:
        hf: the model.
        blocks: its blocks; a block's first argument is the hidden states, whatever else it takes.
        form: of a block's output; see `tuple_length`.
        inputs: of the forward.
        until: blocks after which it stops.

    Raises:
        UnsupportedModel: the model does something to the hidden states between its blocks.
    """
    entering: list[Tensor] = []
    others: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def pass_by(layer: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        entering.append(hidden)
        also = any(other is hidden for other in (*args, *kwargs.values()))
        if layer != len(others) or hidden is not entering[0] or also:
            raise UnsupportedModel(
                f"{type(hf).__name__} does not hand hidden states from block to block as they are "
                f"(seen at block {layer}), so that blocks cannot run one at a time; load it with "
                "weights='resident'"
            )
        others.append((args, kwargs))
        if len(others) == until:
            raise EndOfForward
        return wrap_output(hidden, form)

    forwards = {block: partial(pass_by, layer) for layer, block in enumerate(blocks)}
    with patched_forwards(forwards), suppress(EndOfForward):
        hf(**inputs)
    return BlockInputs(entering[0], others)
