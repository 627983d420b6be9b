"""Running a model block by block: weights in memory, or read when they are needed."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lga_fast.forward.partial_forward import bare, form_of, formed, replaced
from lga_fast.models._calls import Call, record_call
from lga_fast.models.editable import EditableModel


@runtime_checkable
class Walked(Protocol):
    """A model that runs one block at a time; `StreamedModel` says what each of these does."""

    def walk(self, layers: Iterable[int], to_head: bool = False) -> Generator[int]:
        """Each of these layers while its weights are in memory; `to_head`: the head comes next."""
        ...

    def record(self, inputs: Mapping[str, Any]) -> Call:
        """What a forward hands to the blocks, which do not run."""
        ...

    def run(
        self, layer: int, hidden: Float[Tensor, "row token d_model"], call: Call
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


class BlockByBlock:
    """A model whose weights are in memory, run one block at a time; see `Walked`.

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
            first = record_call(model.hf, self._blocks, 0, inputs, until=1)
            args, kwargs = first.others[0]
            self._form = form_of(self._blocks[0](first.hidden, *args, **kwargs))
        self.record(inputs)

    def walk(self, layers: Iterable[int], to_head: bool = False) -> Generator[int]:
        """See `Walked`."""
        yield from layers

    def record(self, inputs: Mapping[str, Any]) -> Call:
        """See `Walked`."""
        with torch.no_grad():
            return record_call(self._model.hf, self._blocks, self._form, inputs, self._model.layers)

    def run(
        self, layer: int, hidden: Float[Tensor, "row token d_model"], call: Call
    ) -> Float[Tensor, "row token d_model"]:
        """See `Walked`."""
        args, kwargs = call.others[layer]
        return bare(self._blocks[layer](hidden, *args, **kwargs))

    def head(self) -> AbstractContextManager[None]:
        """See `Walked`."""
        return nullcontext()

    @contextmanager
    def after_blocks(self, hidden: Float[Tensor, "row token d_model"]) -> Iterator[None]:
        """See `Walked`."""

        def give(given: Tensor, *args: Any, **kwargs: Any) -> Any:
            return formed(hidden, self._form)

        with replaced(dict.fromkeys(self._blocks, give)):
            yield
