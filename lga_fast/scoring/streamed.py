"""The scoring pass with its loops swapped: blocks outside, batches inside.

Each block is read twice however many batches there are: once forward, and once for its forward
again and its backward. What enters a block waits between the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from lga_fast import progress
from lga_fast.models.streamed import Call, StreamedModel
from lga_fast.scoring.graph import backward
from lga_fast.scoring.layout import Layout
from lga_fast.scoring.sums import Pass
from lga_fast.scoring.waiting import Waiting

_EXPERTS = "per_expert."


class Sweeps:
    """Both sweeps of one pass.

    What is finished lies in `waiting`: `entering-L` has what enters block L, `gradient-L` the
    gradients of that (of block 0: none) and what the pass has found down to there.

    Args:
        scoring: what the pass adds to.
        batches: pairs that run together, and whether packed.
        waiting: where tensors wait; sweeps that were begun there go on.
        show_progress: see `score_layers`.
    """

    def __init__(
        self,
        scoring: Pass,
        batches: Sequence[tuple[list[int], bool]],
        waiting: Waiting,
        show_progress: bool | None,
    ) -> None:
        assert isinstance(scoring.model, StreamedModel)
        self.scoring, self.model, self.waiting = scoring, scoring.model, waiting
        self.layers, self.show = scoring.model.layers, show_progress
        self.batches = [(batch, scoring.made(batch, packed)) for batch, packed in batches]
        self._calls: list[Call] = []

    def run(self) -> None:
        """Do what is left to do."""
        entered, back = self._done("entering"), self._done("gradient")
        if back:
            self._recall(self.waiting.get(f"gradient-{min(back)}"))
        else:
            # From the last block at the latest: the head needs to know what a block returns.
            self._forward(min([*entered[-1:], self.layers - 1]) if entered else 0)
            self._head()
        self._backward(min(back, default=self.layers))

    def _forward(self, first: int) -> None:
        for layer in self._walk(range(first, self.layers), "blocks forward"):
            leaving = {}
            for i, entering in enumerate(self._entering(layer)):
                # As in the other sweep, though nothing goes back: experts run in another way for
                # taps, and some kernels ask whether there is a graph.
                with torch.enable_grad(), self.scoring.taps(*self.batches[i], [layer], 0):
                    leaving[str(i)] = self.model.run(layer, entering, self._calls[i]).detach()
            self.waiting.put(f"entering-{layer + 1}", leaving)

    def _head(self) -> None:
        found = {}
        with self.model.head():
            for i, hidden in enumerate(self._entering(self.layers)):
                batch, made = self.batches[i]
                with torch.enable_grad(), self.model.after_blocks(hidden):
                    read, gradients = self.scoring.head(batch, made)
                    for k, gradient in enumerate(backward(read, gradients, hidden)):
                        found[f"{i}.{k}"] = gradient
        self._finish(self.layers, found)

    def _backward(self, layers: int) -> None:
        for layer in self._walk(range(layers - 1, -1, -1), "blocks backward"):
            leaving, found = self.waiting.get(f"gradient-{layer + 1}"), {}
            for i, hidden in enumerate(self._entering(layer)):
                batch, made = self.batches[i]
                keys = [f"{i}.{k}" for k in range(2 if made.packed else 1)]
                gradients = [leaving[key].to(self.model.device) for key in keys]
                with torch.enable_grad(), self.scoring.taps(batch, made, [layer]):
                    output = self.model.run(layer, hidden, self._calls[i])
                    given = backward(output, gradients, hidden if layer else None)
                found |= zip(keys, given, strict=bool(layer))
            self._finish(layer, found)

    def _walk(self, layers: range, title: str) -> Iterator[int]:
        with (
            progress.bar(title, len(layers), self.show) as advance,
            closing(self.model.walk(layers)) as walk,
        ):
            for layer in walk:
                if not self._calls:
                    self._calls = self.model.record(
                        [self._inputs(made) for _, made in self.batches]
                    )
                yield layer
                advance(1)

    def _inputs(self, made: Layout) -> dict[str, Any]:
        inputs = {"input_ids": made.ids, **made.inputs}
        return {name: t.to(self.model.device) for name, t in inputs.items()} | {"use_cache": False}

    def _entering(self, layer: int) -> Iterator[Tensor]:
        """What enters a block (or the head), batch by batch, ready for a gradient."""
        if layer == 0:
            yield from (call.hidden for call in self._calls)
            return
        waiting = self.waiting.get(f"entering-{layer}")
        for i in range(len(self.batches)):
            yield waiting[str(i)].detach().to(self.model.device).requires_grad_()

    # -- what is finished ----------------------------------------------------------------------
    def _done(self, kind: str) -> list[int]:
        names = (name.split("-") for name in self.waiting.names())
        return sorted(int(layer) for name, layer in names if name == kind)

    def _finish(self, layer: int, gradients: dict[str, Tensor]) -> None:
        """The gradients of what enters a block are known, and what the pass finds from there on."""
        scoring = self.scoring
        found = {"sums": scoring.sums, "losses": scoring.losses, "says_new": scoring.says_new}
        found |= {f"{_EXPERTS}{name}": dot for name, dot in scoring.per_expert.items()}
        forwards = torch.tensor(scoring.sequence_forwards)
        self.waiting.put(f"gradient-{layer}", gradients | found | {"forwards": forwards})
        self.waiting.drop(f"entering-{layer}")
        self.waiting.drop(f"gradient-{layer + 1}")

    def _recall(self, found: Mapping[str, Tensor]) -> None:
        scoring = self.scoring
        for name in ("sums", "losses", "says_new"):
            getattr(scoring, name).copy_(found[name])
        scoring.sequence_forwards = int(found["forwards"])
        for name in found:
            if name.startswith(_EXPERTS):
                dot = found[name].to(scoring.sums.device, copy=True)
                scoring.per_expert[name.removeprefix(_EXPERTS)] = dot
