"""Logits under a change of one layer's output at one token of each row.

A change reaches later blocks only, and no token before the changed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lga_fast.forward.clean_run import CapturedOutput, CleanRun, Readout, Site, capture
from lga_fast.forward.packed_suffix import PackedSuffix
from lga_fast.forward.partial_forward import RecordedForward
from lga_fast.models import module_patching
from lga_fast.models.editable import EditableModel
from lga_fast.models.module_patching import change_output, hooked, unwrap_output, wrap_output
from lga_fast.models.tensor_utils import grad_mode

Changes = Mapping[Site, Float[Tensor, "row d_model"]]
Positions = tuple[Tensor, Tensor]  # row and token [position]

_ANY = torch.zeros(1, dtype=torch.long)  # row or token of a position whose logits nobody reads


class LogitLens(NamedTuple):
    """Positions whose logits are read from an earlier block's output."""

    layer: int
    positions: Bool[Tensor, " position"]


class FullForward:
    """Logits under a change, the plain way: the reference of `SuffixForward`.

    Every call runs the whole model on every token.

    Args:
        model: frozen by the caller (`model.frozen()`).
        layer: whose output is changed.
        reads: the rows and the positions to read.
        sites: which outputs of the layer are changed.
        clean_run: what `run` returned for these rows and sites, and this layer among others;
            default: run now.
    """

    def __init__(
        self,
        model: EditableModel,
        layer: int,
        reads: Readout,
        sites: Sequence[Site] = ("mlp",),
        clean_run: CleanRun | None = None,
    ):
        self.model, self.layer, self.reads, self.sites = model, layer, reads, tuple(sites)
        self._clean_run = clean_run or self.run(model, [layer], reads, sites)
        self._captured, self._start = self._clean_run.captured, self._clean_run.start
        # At the changed tokens of the unchanged model: input and output of the edited matrix
        # [row d_in], [row d_out], and outputs of the sites [row d_model].
        self.keys, self.outputs = self._clean_run.keys[layer], self._clean_run.outputs[layer]
        self.initial = {
            site: self._at(self._captured[model.part(layer, site)].value) for site in self.sites
        }

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Drop all other rows."""
        self.reads = self.reads.only(rows)

    def logits(
        self, changes: Changes, lens_at: LogitLens | None = None
    ) -> Float[Tensor, "position vocab"]:
        """Logits at the positions to read, with `changes` added to the outputs of their sites."""
        reads = self.reads
        changed = torch.arange(len(reads.ids)), reads.changed
        with ExitStack() as stack:
            for site, change in changes.items():
                hook = partial(change_output, reads.ids.shape, partial(_added, changed, change))
                module = self.model.part(self.layer, site)
                stack.enter_context(hooked(module.register_forward_hook, hook))
            lens = stack.enter_context(self._lens(lens_at, (reads.row, reads.token)))
            ids = reads.ids.to(self.model.device)
            return self.model.logits_at(ids, reads.row, reads.token, lens, use_cache=False)[0]

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
            model.logits_at(reads.ids.to(model.device), _ANY, _ANY, use_cache=False)
        return clean

    def _at(self, captured: Float[Tensor, "row position d"]) -> Float[Tensor, "row d"]:
        """The captured values at the changed tokens."""
        changed = (self.reads.changed - self._start).to(captured.device)
        return captured[torch.arange(len(captured), device=captured.device), changed]


class SuffixForward(FullForward):
    """`FullForward`, but a call runs only what the change can reach.

    The clean run records the layer's input, what the layer computes before the changed output, and
    keys and values of the tokens before the changed one: attention is causal, so none of these can
    change. A call runs the rest: the tokens from the changed one to the last one that is read,
    through the blocks from the layer on. All rows share one token axis where the family allows it
    (`PackedSuffix`); otherwise they are padded.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._replayed = _replayed(self.model, [self.layer], self.sites)
        self._rows = torch.arange(len(self.reads.ids))
        self._layout: _Layout | None = None

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Drop all other rows."""
        super().keep(rows)
        self._rows, self._start = self._rows[rows], self._start[rows]
        width = self.reads.positions_from(self._start).shape[1]
        parts = [self.model.part(self.layer, site) for site in self._replayed]
        self._captured = {part: self._captured[part].only(rows, width) for part in parts}
        self._layout = None

    def logits(
        self, changes: Changes, lens_at: LogitLens | None = None
    ) -> Float[Tensor, "position vocab"]:
        """Logits at the positions to read, with `changes` added to the outputs of their sites."""
        layout = self._layout = self._layout or self._lay_out()
        sites: set[Site] = {*self._replayed, *changes}
        parts = {site: self.model.part(self.layer, site) for site in sites}
        captured, changed = layout.captured, layout.changed
        replay = {
            parts[site]: partial(_replay, captured[parts[site]], changed, changes.get(site))
            for site in self._replayed
        }
        live = {
            parts[site]: partial(_added, changed, change)
            for site, change in changes.items()
            if site not in self._replayed
        }
        with self._lens(lens_at, layout.reads) as lens:
            run, suffix = self._recording, layout.suffix
            if suffix is not None:
                return run.run_packed_from(self.layer, suffix, live, replay, lens)
            rows = self._rows, self._start, layout.reads
            return run.run_from(self.layer, *rows, live, replay, lens)

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
            recording.run(_ANY, _ANY)
        return clean

    @property
    def _recording(self) -> RecordedForward:
        assert self._clean_run.recording is not None
        return self._clean_run.recording

    def _lay_out(self) -> _Layout:
        """The rows, each from its first token that runs."""
        start, reads = self._start, self.reads
        read = reads.row, reads.token - start[reads.row]
        if not self._recording.can_pack:
            changed = torch.arange(len(start)), reads.changed - start
            return _Layout(changed, read, self._captured)
        suffix = self._recording.packed_suffix(self.layer, self._rows, start, read)
        captured = {
            part: CapturedOutput(value[suffix.run, suffix.token].unsqueeze(0), form)
            for part, (value, form) in self._captured.items()
        }
        changed, read = ((torch.zeros_like(x), x) for x in (suffix.first, suffix.reads))
        return _Layout(changed, read, captured, suffix)


class _Layout(NamedTuple):
    """How rows are laid out while they run: row and token of positions, captured outputs."""

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


def _added(
    changed: Positions, change: Tensor, hidden: Float[Tensor, "row token d"]
) -> Float[Tensor, "row token d"]:
    """`hidden` with `change` added at each row's changed token."""
    row, token = (x.to(hidden.device) for x in changed)
    return hidden.index_put((row, token), change.to(hidden), accumulate=True)


def _replay(
    captured: CapturedOutput, changed: Positions, change: Tensor | None, *args: Any, **kwargs: Any
) -> Any:
    """Forward: the captured output with `change` added."""
    value = captured.value if change is None else _added(changed, change, captured.value)
    if args and args[0].ndim == 2:  # OPT's MLP sees rows and tokens as one
        value = value.flatten(0, 1)
    return wrap_output(value, captured.form)
