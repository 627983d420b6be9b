"""Logits under a change of one layer's output, from which only what the change reaches runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lga_fast.forward.clean_run import CapturedOutput, CleanRun, Readout, Site, capture
from lga_fast.forward.packed_suffix import PackedSuffix
from lga_fast.forward.partial_forward import RecordedForward
from lga_fast.forward.patched_forward import (
    NOBODY_READS,
    Changes,
    FullForward,
    LogitLens,
    Positions,
)
from lga_fast.models.editable import EditableModel
from lga_fast.models.module_patching import wrap_output
from lga_fast.models.tensor_utils import grad_mode


class SuffixForward(FullForward):
    """`FullForward`, but a call runs only what the change can reach.

    The clean run records the first layer's input, what that computes before the changed output, and
    keys and values of the tokens before the changed one: attention is causal, so none of these can
    change. A call runs the rest: the tokens from the changed one to the last one that is read,
    through the blocks from the first layer on; rows that are changed at a later one run there as
    they did in the clean run. All rows share one token axis where the family allows it
    (`PackedSuffix`); otherwise they are padded.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._layout: _Layout | None = None

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Drop all other rows."""
        super().keep(rows)
        self._layout = None

    def logits(
        self, changes: Changes, lens_at: LogitLens | None = None
    ) -> Float[Tensor, "position vocab"]:
        """Logits at the positions to read, with `changes` added to the outputs of their sites."""
        layout = self._layout = self._layout or self._lay_out()
        adding = self._adding(changes, layout.changed)
        replay = {
            part: partial(_replay, captured, adding.pop(part, None))
            for part, captured in layout.captured.items()
        }
        with self._lens(lens_at, layout.reads) as lens:
            run, suffix = self._recording, layout.suffix
            if suffix is not None:
                return run.run_packed_from(layout.block, suffix, adding, replay, lens)
            rows = self._recorded, self._start, layout.reads
            return run.run_from(layout.block, *rows, adding, replay, lens)

    @classmethod
    def run(
        cls, model: EditableModel, layers: Sequence[int], reads: Readout, sites: Sequence[Site]
    ) -> CleanRun:
        """Run the unchanged model once, for changes at each of these layers."""
        recording = RecordedForward(model, reads.ids, layers)
        start = reads.changed if recording.starts_at_tokens else torch.zeros_like(reads.changed)
        clean, positions = CleanRun(start, recording), reads.positions_from(start)
        recorded = list(dict.fromkeys((*sites, *_replayed(model, layers, sites))))
        with (
            grad_mode(False),
            capture(model, layers, recorded, reads, positions, clean),
        ):
            recording.run(NOBODY_READS, NOBODY_READS)
        return clean

    @property
    def _recording(self) -> RecordedForward:
        assert self._clean_run.recording is not None
        return self._clean_run.recording

    @property
    def _start(self) -> Int[Tensor, " row"]:
        return self._clean_run.start[self._recorded]

    def _lay_out(self) -> _Layout:
        """The rows, each from its first token that runs."""
        start, reads, block = self._start, self.reads, int(self._layer[0])
        read = reads.row, reads.token - start[reads.row]
        parts = [self.model.part(block, s) for s in _replayed(self.model, [block], self.sites)]
        captured = {part: self._clean_run.captured[part] for part in parts}
        if not self._recording.can_pack:
            width = reads.positions_from(start).shape[1]
            captured = {part: x.only(self._recorded, width) for part, x in captured.items()}
            changed = torch.arange(len(start)), reads.changed - start
            return _Layout(block, changed, read, captured)
        suffix = self._recording.packed_suffix(block, self._recorded, start, read)
        captured = {
            part: CapturedOutput(value[suffix.rows, suffix.token].unsqueeze(0), form)
            for part, (value, form) in captured.items()
        }
        changed, read = ((torch.zeros_like(x), x) for x in (suffix.first, suffix.reads))
        return _Layout(block, changed, read, captured, suffix)


class _Layout(NamedTuple):
    """How rows are laid out while they run: row and token of positions, captured outputs."""

    block: int  # where they start
    changed: Positions
    reads: Positions
    captured: Mapping[nn.Module, CapturedOutput]
    suffix: PackedSuffix | None = None  # where all rows share one token axis


def _replayed(
    model: EditableModel, layers: Sequence[int], sites: Sequence[Site]
) -> tuple[Site, ...]:
    """Sites whose outputs need not be computed again: as captured, apart from the change."""
    if not model.restarts:  # later blocks may read more of this one than its output
        return ()
    # A changed block output is all that counts; a changed attention output changes the MLP's.
    if "attention" in sites or "block" in sites:
        return ("attention",) if "attention" in sites else ("block",)
    return ("attention", "mlp") if any(map(model.mixes, layers)) else ("mlp",)


def _replay(
    captured: CapturedOutput, add: Callable[[Tensor], Tensor] | None, *args: Any, **kwargs: Any
) -> Any:
    """Forward: the captured output, with what is added to it."""
    value = captured.value if add is None else add(captured.value)
    if args and args[0].ndim == 2:  # OPT's MLP sees rows and tokens as one
        value = value.flatten(0, 1)
    return wrap_output(value, captured.form)
