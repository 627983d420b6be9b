"""The scoring pass with its loops swapped: blocks outside, batches inside.

Each block is used twice however many batches there are: once forward, and once for its forward
again and its backward. What enters a block waits between the two. So streamed weights are read
twice, and a checkpointed batch of resident weights holds the activations of one block at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from lga_fast import progress
from lga_fast.forward.tensor_store import DiskStore, MemoryStore, TensorStore
from lga_fast.models import EditableModel
from lga_fast.models.block_runner import BlockInputs
from lga_fast.models.tensor_utils import grad_mode
from lga_fast.scoring.batch_layout import Batch, Layout
from lga_fast.scoring.scoring_pass import ScoringPass, backward

_EXPERTS = "per_expert."


def run_streamed(
    scoring: ScoringPass,
    batches: Sequence[Batch],
    store: TensorStore | None,
    show_progress: bool | None,
) -> None:
    """Score batches with streamed weights; without a store, in memory or temporary files."""
    with ExitStack() as stack:
        if store is None:
            layouts = [scoring.layout(batch) for batch in batches]
            store = MemoryStore()
            if store_bytes(scoring.model, layouts) > scoring.model.memory.store_budget:
                folder = stack.enter_context(TemporaryDirectory(prefix="lga_fast-"))
                store = DiskStore(Path(folder))
        LayerMajorPass(scoring, batches, store, show_progress).run()


def run_checkpointed(scoring: ScoringPass, batch: Batch) -> None:
    """Score one batch with resident weights and the activations of one block at a time."""
    LayerMajorPass(scoring, [batch], MemoryStore(None), show_progress=False).run()


def store_bytes(model: EditableModel, layouts: Sequence[Layout]) -> int:
    """Bytes that wait between the sweeps: what enters blocks and the head, gradients of two."""
    vectors = 0
    for layout in layouts:
        vectors += layout.ids.numel() * (model.layers + 1 + 2 * (2 if layout.packed else 1))
    return vectors * model.memory.hidden_bytes


class LayerMajorPass:
    """Both sweeps of one pass.

    What is finished lies in `store`: `entering-L` has what enters block L, `gradient-L` the
    gradients of that (of block 0: none) and what the pass has found down to there. Each batch's
    part goes there as it is made, so that only one is on the device.

    Args:
        scoring: what the pass adds to.
        batches: what runs together.
        store: where tensors wait; sweeps that were begun there go on.
        show_progress: see `score_layers`.
    """

    def __init__(
        self,
        scoring: ScoringPass,
        batches: Sequence[Batch],
        store: TensorStore,
        show_progress: bool | None,
    ) -> None:
        runner = scoring.model.block_runner()
        assert runner is not None  # else no batch is checkpointed, and no model streamed
        self.scoring, self.runner, self.store = scoring, runner, store
        self.layers, self.show = scoring.model.layers, show_progress
        self.lowest = scoring.model.mlp_layers[0]  # below it no gradient is asked for
        self.device = scoring.model.device
        self.batches = [(batch.pairs, scoring.layout(batch)) for batch in batches]
        self._block_inputs: list[BlockInputs] = []

    def run(self) -> None:
        """Do what is left to do."""
        entered, back = self._resumable()
        if back:
            self._restore(self.store.get(f"gradient-{back[0]}"))
        else:
            # From the last block at the latest: the head needs to know what a block returns.
            self._forward(min([*entered[-1:], self.layers - 1]) if entered else 0)
            with self.runner.head():
                self._finish(self.layers, self._from_head())
        self._backward(min(back, default=self.layers))

    def _forward(self, first: int) -> None:
        for layer in self._walk(range(first, self.layers), "blocks forward"):
            self.store.put(f"entering-{layer + 1}", self._leaving(layer))

    def _backward(self, layers: int) -> None:
        for layer in self._walk(range(layers - 1, self.lowest - 1, -1), "blocks backward"):
            self._finish(layer, self._from_block(layer))

    # -- one batch after the other -------------------------------------------------------------
    def _leaving(self, layer: int) -> Iterator[tuple[str, Tensor]]:
        for i, entering in enumerate(self._entering(layer)):
            # As in the other sweep, though nothing goes back: experts run in another way for
            # taps, and some kernels ask whether there is a graph.
            with grad_mode(True), self.scoring.taps(*self.batches[i], [layer], 0):
                output = self.runner.run(layer, entering, self._block_inputs[i]).detach()
            yield str(i), output

    def _from_head(self) -> Iterator[tuple[str, Tensor]]:
        for i, hidden in enumerate(self._entering(self.layers)):
            batch, layout = self.batches[i]
            with grad_mode(True), self.runner.after_blocks(hidden):
                read, gradients = self.scoring.head(batch, layout)
                entering = backward(read, gradients, hidden)
            yield from zip(self._keys(i), entering, strict=True)

    def _from_block(self, layer: int) -> Iterator[tuple[str, Tensor]]:
        leaving = self.store.get(f"gradient-{layer + 1}")
        for i, hidden in enumerate(self._entering(layer)):
            with grad_mode(True), self.scoring.taps(*self.batches[i], [layer]):
                output = self.runner.run(layer, hidden, self._block_inputs[i])
                gradients = [leaving[key].to(output.device) for key in self._keys(i)]
                entering = backward(output, gradients, hidden if layer > self.lowest else None)
            yield from zip(self._keys(i), entering, strict=layer > self.lowest)

    def _keys(self, i: int) -> list[str]:
        """Names of a batch's gradients: of both answers together, or of each."""
        return [f"{i}.{k}" for k in range(2 if self.batches[i][1].packed else 1)]

    def _walk(self, layers: range, title: str) -> Iterator[int]:
        with (
            progress.bar(title, len(layers), self.show) as advance,
            closing(self.runner.walk(layers, to_head=layers.step > 0)) as walk,
        ):
            for layer in walk:
                if not self._block_inputs and "entering-0" in self.store.names():
                    deque(self._embedded(), maxlen=0)
                elif not self._block_inputs:
                    self.store.put("entering-0", self._embedded())
                yield layer
                advance(1)

    def _embedded(self) -> Iterator[tuple[str, Tensor]]:
        """What enters block 0; all else that blocks get is kept."""
        for i, (_, layout) in enumerate(self.batches):
            inputs = self.runner.record(self.scoring.inputs(layout))
            self._block_inputs.append(replace(inputs, hidden=inputs.hidden.new_empty(0, 0, 0)))
            yield str(i), inputs.hidden

    def _entering(self, layer: int) -> Iterator[Tensor]:
        """What enters a block (or the head), batch by batch, ready for a gradient."""
        waiting = self.store.get(f"entering-{layer}")
        for i in range(len(self.batches)):
            entering = waiting[str(i)].detach().to(self.device)
            yield entering.requires_grad_(layer > self.lowest)

    # -- what is finished ----------------------------------------------------------------------
    def _resumable(self) -> tuple[list[int], list[int]]:
        """Blocks whose inputs, and the one whose gradients, are there to go on with.

        A run that was killed while it dropped sets leaves some that are of no use any more; without
        the others all begins again.
        """
        entered, back = self._stored("entering"), self._stored("gradient")
        last = back[0] if back else len(entered)
        whole = entered[:last] == list(range(last))
        keep = (list(range(last)), back[:1]) if whole else ([], [])
        kinds = zip(("entering", "gradient"), (entered, back), keep, strict=True)
        for kind, layers, wanted in kinds:
            for layer in set(layers).difference(wanted):
                self.store.drop(f"{kind}-{layer}")
        return keep

    def _stored(self, kind: str) -> list[int]:
        names = (name.split("-") for name in self.store.names())
        return sorted(int(layer) for name, layer in names if name == kind)

    def _finish(self, layer: int, gradients: Iterator[tuple[str, Tensor]]) -> None:
        """Find the gradients of what enters a block, and all that the pass knows from there on."""
        self.store.put(f"gradient-{layer}", chain(gradients, self._results()))
        self.store.drop(f"entering-{layer}")
        self.store.drop(f"gradient-{layer + 1}")

    def _results(self) -> Iterator[tuple[str, Tensor]]:
        scoring = self.scoring  # asked after the last batch, not before
        scoring.finish()
        yield from scoring.tensors().items()
        yield "forwards", torch.tensor(scoring.sequence_forwards)
        for name, dot in scoring.per_expert.items():
            yield f"{_EXPERTS}{name}", dot

    def _restore(self, results: Mapping[str, Tensor]) -> None:
        scoring = self.scoring
        for name, tensor in scoring.tensors().items():
            tensor.copy_(results[name])
        scoring.sequence_forwards = int(results["forwards"])
        for name in results:
            if name.startswith(_EXPERTS):
                scoring.per_expert[name.removeprefix(_EXPERTS)] = results[name].clone()
