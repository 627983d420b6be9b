"""Logits under a change of one layer's output at one token of each row.

A change reaches later blocks only, and no token before the changed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lga_fast.forward.clean_run import CleanRun, Readout, Site, capture
from lga_fast.models import module_patching
from lga_fast.models.editable import EditableModel
from lga_fast.models.module_patching import change_output, hooked, unwrap_output
from lga_fast.models.tensor_utils import grad_mode

Changes = Mapping[Site, Float[Tensor, "row d_model"]]
Positions = tuple[Tensor, Tensor]  # row and token [position]

NOBODY_READS = torch.zeros(1, dtype=torch.long)  # row or token of a position


class LogitLens(NamedTuple):
    """Positions whose logits are read from an earlier block's output."""

    layer: int
    positions: Bool[Tensor, " position"]


class FullForward:
    """Logits under a change, the plain way: the reference of `suffix_forward`.

    Every call runs the whole model on every token.

    Args:
        model: frozen by the caller (`model.frozen()`).
        layers: whose outputs are changed, each time of all rows: a row of `reads` becomes one for
            each layer, all rows of the first layer first. In ascending order.
        reads: the rows and the positions to read.
        sites: which outputs of a layer are changed.
        clean_run: what `run` returned for these rows and sites, and these layers among others;
            default: run now.
    """

    def __init__(
        self,
        model: EditableModel,
        layers: Sequence[int],
        reads: Readout,
        sites: Sequence[Site] = ("mlp",),
        clean_run: CleanRun | None = None,
    ):
        self.model, self.sites = model, tuple(sites)
        clean = self._clean_run = clean_run or self.run(model, layers, reads, sites)
        self.reads = reads.repeated(len(layers))
        self._recorded = torch.arange(len(reads.ids)).repeat(len(layers))  # row of the clean run
        self._layer = torch.tensor(layers).repeat_interleave(len(reads.ids))
        changed = reads.changed - clean.start

        def initial(site: Site) -> list[Tensor]:
            captured = [clean.captured[model.part(n, site)].value for n in layers]
            return [x[torch.arange(len(x)), changed.to(x.device)] for x in captured]

        # At the changed tokens of the unchanged model: input and output of the edited matrix
        # [row d_in], [row d_out], and outputs of the sites [row d_model].
        self.keys = _concatenated([clean.keys[n] for n in layers])
        self.outputs = _concatenated([clean.outputs[n] for n in layers])
        self.initial = {site: _concatenated(initial(site)) for site in self.sites}

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Drop all other rows."""
        self.reads = self.reads.only(rows)
        self._recorded, self._layer = self._recorded[rows], self._layer[rows]

    def logits(
        self, changes: Changes, lens_at: LogitLens | None = None
    ) -> Float[Tensor, "position vocab"]:
        """Logits at the positions to read, with `changes` added to the outputs of their sites."""
        reads = self.reads
        changed = torch.arange(len(reads.ids)), reads.changed
        with ExitStack() as stack:
            for module, add in self._adding(changes, changed).items():
                hook = partial(change_output, reads.ids.shape, add)
                stack.enter_context(hooked(module.register_forward_hook, hook))
            lens = stack.enter_context(self._lens(lens_at, (reads.row, reads.token)))
            ids = reads.ids.to(self.model.device)
            return self.model.logits_at(ids, reads.row, reads.token, lens, use_cache=False)[0]

    def _adding(
        self, changes: Changes, changed: Positions
    ) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
        """By module, what adds to its output the changes of the rows that are changed there."""
        layers, counts = self._layer.unique_consecutive(return_counts=True)
        adding: dict[nn.Module, Callable[[Tensor], Tensor]] = {}
        for site, change in changes.items():
            split = (x.split(counts.tolist()) for x in (*changed, change))
            for n, row, token, own in zip(layers.tolist(), *split, strict=True):
                adding[self.model.part(n, site)] = partial(_added, (row, token), own)
        return adding

    @contextmanager
    def _lens(
        self, lens_at: LogitLens | None, reads: Positions
    ) -> Iterator[Callable[[Tensor], Tensor]]:
        """What the head sees, given the hidden states at the positions to read."""
        if lens_at is None:
            yield lambda hidden: hidden
            return
        outputs: list[Tensor] = []  # of the block
        norm = self.model.hf.get_submodule(self.model.family.final_norm)

        def swap(hidden: Tensor) -> Tensor:
            row, token, here = (x.to(hidden.device) for x in (*reads, lens_at.positions))
            module_patching.refuse_streams(outputs[-1], outputs[-1].shape[:2])
            early = norm(outputs[-1].to(hidden.device)[row, token])
            return torch.where(here.unsqueeze(1), early, hidden)

        block = self.model.part(lens_at.layer, "block")
        register = block.register_forward_hook
        with hooked(register, lambda m, args, output: outputs.append(unwrap_output(output))):
            yield swap

    @classmethod
    def run(
        cls, model: EditableModel, layers: Sequence[int], reads: Readout, sites: Sequence[Site]
    ) -> CleanRun:
        """Run the unchanged model once, for changes at each of these layers."""
        clean, changed = CleanRun(reads.changed, None), reads.changed.unsqueeze(1)
        with grad_mode(False), capture(model, layers, sites, reads, changed, clean):
            model.logits_at(reads.ids.to(model.device), NOBODY_READS, NOBODY_READS, use_cache=False)
        return clean


def _added(
    changed: Positions, change: Tensor, hidden: Float[Tensor, "row token d"]
) -> Float[Tensor, "row token d"]:
    """`hidden` with `change` added at each row's changed token."""
    row, token = (x.to(hidden.device) for x in changed)
    return hidden.index_put((row, token), change.to(hidden), accumulate=True)


def _concatenated(parts: Sequence[Float[Tensor, "_ d"]]) -> Float[Tensor, "row d"]:
    """All rows, on the device of the first; blocks may be on several."""
    return torch.cat([part.to(parts[0].device) for part in parts])
