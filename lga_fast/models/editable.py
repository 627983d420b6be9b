"""EditableModel: a Hugging Face decoder that can be tapped, edited, and run in batches.

Where the weights are, and what follows from that, is the model's own business: which batches run
together (`groups`) and how (`run_batches`, `logits_of`, `block_runner`), what fits into memory
(`memory`), how much is read (`sweep_bytes`). Here the weights are in memory; `StreamedModel` reads
them while they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lga_fast import undo
from lga_fast.errors import NonFinite, UnsupportedModel
from lga_fast.memory import Memory
from lga_fast.models import fingerprint, non_finite
from lga_fast.models.block_runner import BlockRunner
from lga_fast.models.edit_stack import Applied, EditStack
from lga_fast.models.half_products import half_products
from lga_fast.models.kv_cache import CACHE
from lga_fast.models.module_patching import hooked
from lga_fast.models.structure import ModelStructure
from lga_fast.models.taps import Tap, Taps
from lga_fast.models.tensor_utils import to_device
from lga_fast.weight_edit import WeightEdit


@dataclass(frozen=True)
class ForwardJob:
    """A batch's forward, the positions of its logits, and what is in effect while it runs."""

    inputs: Mapping[str, Any]  # of the model's forward
    rows: Int[Tensor, " position"] = field(default_factory=lambda: torch.empty(0).long())
    tokens: Int[Tensor, " position"] = field(default_factory=lambda: torch.empty(0).long())
    within: Callable[[], AbstractContextManager[Any]] = nullcontext


class EditableModel(ModelStructure):
    """A causal language model whose MLP matrices can be tapped and edited.

    Args:
        hf: a transformers causal language model (also a multimodal wrapper around one).
        tokenizer: its tokenizer.
        name: what to call it in results.
        memory_budget: bytes that a run may use beside the weights; None: half of what is free.
        editing: by editor, options that suit this model.

    Raises:
        UnsupportedModel: no family file fits and none can be guessed, or a block does not hold what
            its family file says.
    """

    streamed = False  # weights are read while they are used
    shards: Any = None  # the `Checkpoint` that streamed weights are read from
    placement = ""  # why the weights are where and as they are, if `load` chose
    source: str | None = None  # folder or Hub id that it was loaded from
    loaded_with: Mapping[str, str] | None = None  # what `load` was asked for and changes results

    def __init__(
        self,
        hf: Any,
        tokenizer: Any,
        name: str,
        memory_budget: int | None = None,
        editing: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        super().__init__(hf, tokenizer, name)
        self.memory_budget = memory_budget
        self.editing = editing or {}
        self._edit_stack = EditStack()

    # -- editing -------------------------------------------------------------------------------
    def edited(self, edit: WeightEdit, *, force: bool = False) -> AbstractContextManager[Applied]:
        """Carry `edit` inside the `with`; after it every bit of the weights is as before.

        Also after an exception or Ctrl-C, nested for sequential edits, and without gradients. What
        else changed the edited weights meanwhile (training) is undone too. A graph taken before or
        inside that needs a weight of another moment is refused by autograd, never silently wrong.

        Args:
            edit: what to add; other parameters are not touched.
            force: take an edit solved on other weights, or one that is in effect already.

        Raises:
            EditError: the edit is not of these weights (see `lga_fast.models.edit_stack`), has
                other shapes, or would leave a weight that is not finite.
        """
        return self._edit_stack.edited(self, edit, force)

    def apply(self, edit: WeightEdit, *, force: bool = False) -> Applied:
        """Add `edit` for good, all of it or nothing; arguments and errors as for `edited`.

        Returns:
            How much of the change the weights' dtype could hold.
        """
        return self._edit_stack.apply(self, edit, force)

    def carries(self, edit: WeightEdit) -> bool:
        """Whether `edit` is in effect, for good or inside a `with`."""
        return self._edit_stack.carries(edit)

    def edits_in_effect(self) -> list[WeightEdit]:
        """The edits that the model carries, oldest first."""
        return [active.edit for active in self._edit_stack.active]

    def edited_names(self) -> set[str]:
        """Weights that the edits in effect change."""
        return self._edit_stack.names()

    def restore(self) -> None:
        """Put back now all that is changed for a while: weights, flags, hooks, forwards.

        The end of every `with` does so, and the next use of the model goes on where that was
        interrupted (a second Ctrl-C). This ends a `with` that is still open too; edits that were
        applied for good stay.
        """
        undo.restore(self.hf.modules())

    # -- running -------------------------------------------------------------------------------
    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode, no gradients for parameters, `half_products`; all put back on exit."""
        with fingerprint.at_rest(self.hf), half_products(self.hf):
            yield

    def taps(
        self,
        on_tap: Callable[[Tap], None],
        backwards: int = 1,
        layers: Collection[int] | None = None,
    ) -> AbstractContextManager[None]:
        """Factors of every MLP matrix's gradient, or of these layers' only; see `Taps`."""
        chosen = range(self.layers) if layers is None else layers
        matrices = {key: module for key, module in self._matrices.items() if key[0] in chosen}
        experts = {n: experts for n, experts in self._experts.items() if n in chosen}
        return Taps(matrices, on_tap, backwards, experts).listening()

    def logits_at(
        self,
        input_ids: Int[Tensor, "row token"],
        rows: Int[Tensor, " position"],
        tokens: Int[Tensor, " position"],
        on_hidden: Callable[[Tensor], Tensor] = lambda hidden: hidden,
        **inputs: Any,
    ) -> tuple[Float[Tensor, "position vocab"], Any]:
        """Logits at the given positions only, and the model's whole output.

        The head sees only those positions, and whatever the model does to its logits
        afterwards (softcap, scale) still happens: the model's own forward runs. `on_hidden` gets
        their hidden states [position d_model] and returns what the head sees instead.
        """

        def gather(head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            hidden = args[0]
            picked = hidden[to_device(rows, hidden.device), to_device(tokens, hidden.device)]
            return (on_hidden(picked).unsqueeze(0),)

        with hooked(self.hf.get_output_embeddings().register_forward_pre_hook, gather):
            output = self.hf(input_ids=input_ids, **inputs)
        return output.logits[0], output

    def check_logits(self, values: Tensor) -> None:
        """Refuse logits of which these few `values` were computed, one or more of each position.

        Raises:
            NonFinite: a value is NaN or infinite.
        """
        if bad := int((~values.isfinite()).sum()):
            raise NonFinite(
                f"{self.name!r}: expected finite logits, got NaN or infinite ones at {bad} of "
                f"{values.numel()} positions; {self.why_not_finite()}"
            )

    def why_not_finite(self) -> str:
        """What makes its numbers NaN or infinite, and how to mend it; reads all weights."""
        return non_finite.explain(self.weights(), self.dtype, bool(self.edited_names()))

    # -- where the weights are -----------------------------------------------------------------
    @property
    def memory(self) -> Memory:
        """What a run may hold."""
        return Memory(self)

    def sweep_bytes(self, first: int = 0) -> int:
        """Bytes that one pass over all blocks reads, or over those from `first` on."""
        return 0

    def head_read_bytes(self) -> int:
        """Bytes that are read for the head, each time it runs."""
        return 0

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter and its name, one at a time."""
        return self.hf.named_parameters()

    def fingerprint_bytes(self) -> int:
        """Bytes that are still to be read for the fingerprint."""
        return 0

    def loaded(self, layer: int) -> AbstractContextManager[None]:
        """A block's weights, edits included, are in memory while inside."""
        return nullcontext()

    def block_runner(self) -> BlockRunner | None:
        """Runs the model one block at a time, frozen by the caller; None: it cannot run so."""
        if not self.restarts:
            return None
        runner = BlockRunner(self)
        try:
            runner.check()
        except UnsupportedModel:
            return None
        return runner

    def groups(self, sizes: Sequence[int], limit: int) -> list[list[int]]:
        """Which batches run together, as lists of their indices.

        Args:
            sizes: of each batch.
            limit: maximal sum of the sizes in a group, where running together saves anything.
        """
        return [[i] for i in range(len(sizes))]

    def run_batches(self, jobs: Sequence[ForwardJob], layers: int | None = None) -> None:
        """Run a group of batches for their hooks; only the first `layers` blocks are needed.

        A `within` may end its batch by suppressing an exception.
        """
        for job in jobs:
            with job.within():
                self.hf(**job.inputs)

    def logits_of(
        self, jobs: Sequence[ForwardJob]
    ) -> Iterator[tuple[Float[Tensor, "position vocab"], Any]]:
        """Logits at each job's positions and the KV cache of its forward; jobs of one group."""
        for job in jobs:
            inputs = dict(job.inputs)
            with job.within():
                ids = inputs.pop("input_ids")
                logits, output = self.logits_at(ids, job.rows, job.tokens, **inputs)
            yield logits, getattr(output, CACHE, None)
