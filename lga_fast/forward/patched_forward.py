"""What a change at one layer can reach: later blocks, and no token before the changed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lga_fast.forward.clean_run import CapturedOutput, CleanRun, Readout, Site, capture, places_of
from lga_fast.forward.packed_suffix import PackedSuffix
from lga_fast.forward.partial_forward import RecordedForward
from lga_fast.models.editable import EditableModel
from lga_fast.models.module_patching import unwrap_output, wrap_output

Changes = Mapping[Site, Float[Tensor, "row d_model"]]
Places = tuple[Tensor, Tensor]  # row and token [place]

_ANY = torch.zeros(1, dtype=torch.long)  # row or token of a place whose logits nobody wants


class LogitLens(NamedTuple):
    """Wanted places whose logits are those of an earlier block's output, as a logit lens."""

    layer: int
    positions: Bool[Tensor, " position"]


class FullForward:
    """Logits under a change of one layer's output at one token of each row, the plain way.

    Every call runs the whole model on every token; `SuffixForward` gives the same.

    Args:
        model: frozen by the caller (`model.frozen()`).
        layer: whose output is changed.
        reads: the rows.
        sites: which outputs of the layer are changed.
        unchanged: what `run` gave for these rows and sites, and this layer among others; default:
            it is run now.
    """

    def __init__(
        self,
        model: EditableModel,
        layer: int,
        reads: Readout,
        sites: Sequence[Site] = ("mlp",),
        unchanged: CleanRun | None = None,
    ):
        self.model, self.layer, self.reads, self.sites = model, layer, reads, tuple(sites)
        self._unchanged = unchanged or self.run(model, [layer], reads, sites)
        self._seen, self._begin = self._unchanged.seen, self._unchanged.begin
        # At the changed tokens of the unchanged model: input and output of the edited matrix
        # [row d_in], [row d_out], and outputs of the sites [row d_model].
        self.keys, self.outputs = self._unchanged.keys[layer], self._unchanged.outputs[layer]
        self.initial = {
            site: self._at(self._seen[model.part(layer, site)].given) for site in self.sites
        }

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only."""
        self.reads = self.reads.only(rows)

    def logits(
        self, changes: Changes, early: LogitLens | None = None
    ) -> Float[Tensor, "position vocab"]:
        """Logits at the wanted places with `changes` added to their sites' outputs."""
        reads = self.reads
        with ExitStack() as stack:
            for site, change in changes.items():
                hook = partial(_add, reads, change)
                module = self.model.part(self.layer, site)
                stack.callback(module.register_forward_hook(hook).remove)
            lens = stack.enter_context(self._lens(early, (reads.row, reads.token)))
            ids = reads.ids.to(self.model.device)
            return self.model.logits_at(ids, reads.row, reads.token, lens, use_cache=False)[0]

    @contextmanager
    def _lens(self, early: LogitLens | None, reads: Places) -> Iterator[Callable[[Tensor], Tensor]]:
        """What the head shall see, given the hidden states at the wanted places."""
        if early is None:
            yield lambda hidden: hidden
            return
        given: list[Tensor] = []
        norm = self.model.hf.get_submodule(self.model.family.final_norm)

        def swap(hidden: Tensor) -> Tensor:
            row, token, here = (x.to(hidden.device) for x in (*reads, early.positions))
            seen = norm(given[-1].to(hidden.device)[row, token])
            return torch.where(here.unsqueeze(1), seen, hidden)

        block = self.model.part(early.layer, "block")
        handle = block.register_forward_hook(
            lambda m, args, output: given.append(unwrap_output(output))
        )
        try:
            yield swap
        finally:
            handle.remove()

    @classmethod
    def run(
        cls, model: EditableModel, layers: Sequence[int], reads: Readout, sites: Sequence[Site]
    ) -> CleanRun:
        """Run the unchanged model once, for changes at each of these layers."""
        made, changed = CleanRun(reads.changed, None), reads.changed.unsqueeze(1)
        with torch.no_grad(), capture(model, layers, sites, reads, changed, made):
            model.logits_at(reads.ids.to(model.device), _ANY, _ANY, use_cache=False)
        return made

    def _at(self, seen: Float[Tensor, "row place d"]) -> Float[Tensor, "row d"]:
        """What was seen at the changed tokens."""
        changed = (self.reads.changed - self._begin).to(seen.device)
        return seen[torch.arange(len(seen), device=seen.device), changed]


class SuffixForward(FullForward):
    """`FullForward`, but a call runs only what the change can reach.

    A recorded run keeps what enters the layer, what the layer computes before the changed output,
    and keys and values of the tokens before the changed one: attention is causal, so none of these
    can change. A call runs the rest: the tokens from the changed one to the last wanted one,
    through the blocks from the layer on; all rows' on one token axis where the family allows it
    (`PackedSuffix`), else padded.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._kept = _kept(self.sites)
        self._rows = torch.arange(len(self.reads.ids))
        self._laid: _Laid | None = None

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only."""
        super().keep(rows)
        self._rows, self._begin = self._rows[rows], self._begin[rows]
        width = places_of(self.reads, self._begin).shape[1]
        parts = [self.model.part(self.layer, site) for site in self._kept]
        self._seen = {part: _only(self._seen[part], rows, width) for part in parts}
        self._laid = None

    def logits(
        self, changes: Changes, early: LogitLens | None = None
    ) -> Float[Tensor, "position vocab"]:
        """Logits at the wanted places with `changes` added to their sites' outputs."""
        laid = self._laid = self._laid or self._lay()
        sites: set[Site] = {*self._kept, *changes}
        parts = {site: self.model.part(self.layer, site) for site in sites}
        replay = {
            parts[site]: partial(_replay, laid.seen[parts[site]], laid.changed, changes.get(site))
            for site in self._kept
        }
        live = {
            parts[site]: partial(_added, laid.changed, change)
            for site, change in changes.items()
            if site not in self._kept
        }
        with self._lens(early, laid.reads) as lens:
            if laid.tails is not None:
                return self._recording.run_packed_from(self.layer, laid.tails, live, replay, lens)
            return self._recording.run_from(
                self.layer, self._rows, self._begin, laid.reads, live, replay, lens
            )

    @classmethod
    def run(
        cls, model: EditableModel, layers: Sequence[int], reads: Readout, sites: Sequence[Site]
    ) -> CleanRun:
        """Run the unchanged model once, for changes at each of these layers."""
        recording = RecordedForward(model, reads.ids, layers)
        begin = reads.changed if recording.cuts else torch.zeros_like(reads.changed)
        made, places = CleanRun(begin, recording), places_of(reads, begin)
        watched = list(dict.fromkeys((*sites, *_kept(sites))))
        with torch.no_grad(), capture(model, layers, watched, reads, places, made):
            recording.run(_ANY, _ANY)
        return made

    @property
    def _recording(self) -> RecordedForward:
        assert self._unchanged.recording is not None
        return self._unchanged.recording

    def _lay(self) -> _Laid:
        """The rows from where they begin."""
        begin, reads = self._begin, self.reads
        wanted = reads.row, reads.token - begin[reads.row]
        if not self._recording.packs:
            changed = torch.arange(len(begin)), reads.changed - begin
            return _Laid(changed, wanted, self._seen)
        tails = self._recording.tails(self.layer, self._rows, begin, wanted)
        seen = {
            part: CapturedOutput(given[tails.run, tails.token].unsqueeze(0), form)
            for part, (given, form) in self._seen.items()
        }
        changed, wanted = ((torch.zeros_like(x), x) for x in (tails.first, tails.reads))
        return _Laid(changed, wanted, seen, tails)


class _Laid(NamedTuple):
    """How the rows lie while they run: row and token of places, and outputs as recorded."""

    changed: Places
    reads: Places
    seen: Mapping[nn.Module, CapturedOutput]
    tails: PackedSuffix | None = None  # where all rows share one token axis


def _kept(sites: Sequence[Site]) -> tuple[Site, ...]:
    """Whose outputs need not be computed again: they are as recorded but for the change."""
    # A changed block output is all that counts; a changed attention output changes the MLP's.
    if "attention" in sites:
        return ("attention",)
    return ("block",) if "block" in sites else ("attention", "mlp")


def _added(
    changed: Places, change: Tensor, hidden: Float[Tensor, "row token d"]
) -> Float[Tensor, "row token d"]:
    """`hidden` with `change` added at each row's changed token."""
    row, token = (x.to(hidden.device) for x in changed)
    return hidden.index_put((row, token), change.to(hidden), accumulate=True)


def _add(reads: Readout, change: Tensor, module: nn.Module, args: Any, output: Any) -> Any:
    """Hook: the output with `change` added."""
    hidden, places = unwrap_output(output), (torch.arange(len(reads.ids)), reads.changed)
    changed = _added(places, change, hidden.view(*reads.ids.shape, -1)).view_as(hidden)
    return (changed, *output[1:]) if isinstance(output, tuple) else changed


def _replay(
    seen: CapturedOutput, changed: Places, change: Tensor | None, *args: Any, **kwargs: Any
) -> Any:
    """Forward: what was given before, with `change` added."""
    given = seen.given if change is None else _added(changed, change, seen.given)
    if args and args[0].ndim == 2:  # OPT's MLP sees rows and tokens as one
        given = given.flatten(0, 1)
    return wrap_output(given, seen.form)


def _only(seen: CapturedOutput, rows: Tensor, width: int) -> CapturedOutput:
    return CapturedOutput(seen.given[rows.to(seen.given.device), :width], seen.form)
