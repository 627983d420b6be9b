"""Running a model block by block: weights in memory, or read when they are needed."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lga_fast.errors import UnsupportedModel
from lga_fast.models.editable import EditableModel
from lga_fast.models.module_patching import (
    patched_forwards,
    tuple_length,
    unwrap_output,
    wrap_output,
)


@runtime_checkable
class BlockRunner(Protocol):
    """A model that runs one block at a time; `StreamedModel` says what each of these does."""

    def walk(self, layers: Iterable[int], to_head: bool = False) -> Generator[int]:
        """Each of these layers while its weights are in memory; `to_head`: the head comes next."""
        ...

    def record(self, inputs: Mapping[str, Any]) -> BlockInputs:
        """What a forward hands to the blocks, which do not run."""
        ...

    def run(
        self, layer: int, hidden: Float[Tensor, "row token d_model"], call: BlockInputs
    ) -> Float[Tensor, "row token d_model"]:
        """Run the block that `walk` is at."""
        ...

    def head(self) -> AbstractContextManager[None]:
        """The head's weights are in memory while inside."""
        ...

    def after_blocks(
        self, hidden: Float[Tensor, "row token d_model"]
    ) -> AbstractContextManager[None]:
        """Forwards go on from these outputs of the last block while inside."""
        ...


class ResidentBlockRunner:
    """A model whose weights are in memory, run one block at a time; see `BlockRunner`.

    Args:
        model: frozen by the caller (`model.frozen()`) whenever this runs.

    Raises:
        UnsupportedModel: the model does something to the hidden states between its blocks.
    """

    def __init__(self, model: EditableModel) -> None:
        self._model = model
        self._blocks = nn.ModuleList(model.part(i, "block") for i in range(model.layers))
        token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        inputs = {"input_ids": token, "use_cache": False}
        with torch.no_grad():
            first = record_block_inputs(model.hf, self._blocks, 0, inputs, until=1)
            args, kwargs = first.others[0]
            self._form = tuple_length(self._blocks[0](first.hidden, *args, **kwargs))
        self.record(inputs)

    def walk(self, layers: Iterable[int], to_head: bool = False) -> Generator[int]:
        """See `BlockRunner`."""
        yield from layers

    def record(self, inputs: Mapping[str, Any]) -> BlockInputs:
        """See `BlockRunner`."""
        with torch.no_grad():
            return record_block_inputs(
                self._model.hf, self._blocks, self._form, inputs, self._model.layers
            )

    def run(
        self, layer: int, hidden: Float[Tensor, "row token d_model"], call: BlockInputs
    ) -> Float[Tensor, "row token d_model"]:
        """See `BlockRunner`."""
        args, kwargs = call.others[layer]
        return unwrap_output(self._blocks[layer](hidden, *args, **kwargs))

    def head(self) -> AbstractContextManager[None]:
        """See `BlockRunner`."""
        return nullcontext()

    @contextmanager
    def after_blocks(self, hidden: Float[Tensor, "row token d_model"]) -> Iterator[None]:
        """See `BlockRunner`."""

        def give(given: Tensor, *args: Any, **kwargs: Any) -> Any:
            return wrap_output(hidden, self._form)

        with patched_forwards(dict.fromkeys(self._blocks, give)):
            yield


@dataclass(frozen=True)
class BlockInputs:
    """What the model's own forward hands to its blocks, for one batch."""

    hidden: Float[Tensor, "row token d_model"]  # entering the first block
    others: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]  # by block: all else


def record_block_inputs(
    hf: Any, blocks: nn.ModuleList, form: int, inputs: Mapping[str, Any], until: int
) -> BlockInputs:
    """Run a model's forward with blocks that hand on what they get.

    Args:
        hf: the model.
        blocks: its blocks; a block's first argument is the hidden states, whatever else it takes.
        form: of a block's output; see `restart.tuple_length`.
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
            raise _Recorded
        return wrap_output(hidden, form)

    forwards = {block: partial(pass_by, layer) for layer, block in enumerate(blocks)}
    with patched_forwards(forwards), suppress(_Recorded):
        hf(**inputs)
    return BlockInputs(entering[0], others)


class _Recorded(Exception):
    """All that a forward hands to its blocks is known."""
