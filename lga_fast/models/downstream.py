"""What a change at one layer can reach: later blocks, and no token before the changed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lga_fast.models.editable import EditableModel
from lga_fast.models.restart import Recording, bare, formed

Site = Literal["attention", "mlp", "block"]  # the module whose output is changed
Changes = Mapping[Site, Float[Tensor, "row d_model"]]


@dataclass(frozen=True)
class Reads:
    """Token rows, where each is changed, and the places whose logits are wanted."""

    ids: Int[Tensor, "row token"]  # padded on the right
    changed: Int[Tensor, " row"]  # place of the changed token
    row: Int[Tensor, " position"]
    token: Int[Tensor, " position"]  # none lies before its row's changed token

    def only(self, rows: Int[Tensor, " kept"]) -> Reads:
        """These rows, given in ascending order, and the positions in them."""
        stays = torch.isin(self.row, rows)
        row = torch.searchsorted(rows, self.row[stays])
        return Reads(self.ids[rows], self.changed[rows], row, self.token[stays])


class Early(NamedTuple):
    """Wanted places whose logits are those of an earlier block's output, as a logit lens."""

    layer: int
    positions: Bool[Tensor, " position"]


class Seen(NamedTuple):
    """What a module took and gave at chosen places of the unchanged model."""

    taken: Float[Tensor, "row place d"] | None  # None: its input has a name
    given: Float[Tensor, "row place d"]
    form: int  # length of the tuple that holds the output; 0: it came bare


class Whole:
    """Logits under a change of one layer's output at one token of each row, the plain way.

    Every call runs the whole model on every token; `Downstream` gives the same.

    Args:
        model: frozen by the caller (`model.frozen()`).
        layer: whose output is changed.
        reads: the rows.
        sites: which outputs of the layer are changed.
    """

    def __init__(
        self, model: EditableModel, layer: int, reads: Reads, sites: Sequence[Site] = ("mlp",)
    ):
        self.model, self.layer, self.reads, self.sites = model, layer, reads, tuple(sites)
        self._seen = self._run()
        edited = self._seen[model.matrix(layer, model.family.edited)]
        assert edited.taken is not None
        # At the changed tokens of the unchanged model: input and output of the edited matrix
        # [row d_in], [row d_out], and outputs of the sites [row d_model].
        self.keys, self.outputs = self._at(edited.taken), self._at(edited.given)
        self.initial = {
            site: self._at(self._seen[model.part(layer, site)].given) for site in self.sites
        }

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only."""
        self.reads = self.reads.only(rows)

    def logits(
        self, changes: Changes, early: Early | None = None
    ) -> Float[Tensor, "position vocab"]:
        """Logits at the wanted places with `changes` added to their sites' outputs."""
        reads = self.reads
        with ExitStack() as stack:
            for site, change in changes.items():
                hook = partial(_add, reads, change)
                module = self.model.part(self.layer, site)
                stack.callback(module.register_forward_hook(hook).remove)
            lens = stack.enter_context(self._lens(early, reads))
            ids = reads.ids.to(self.model.device)
            return self.model.logits_at(ids, reads.row, reads.token, lens, use_cache=False)[0]

    @contextmanager
    def _lens(self, early: Early | None, reads: Reads) -> Iterator[Callable[[Tensor], Tensor]]:
        """What the head shall see, given the hidden states at the wanted places."""
        if early is None:
            yield lambda hidden: hidden
            return
        given: list[Tensor] = []
        norm = self.model.hf.get_submodule(self.model.family.final_norm)

        def swap(hidden: Tensor) -> Tensor:
            row, token, here = (
                x.to(hidden.device) for x in (reads.row, reads.token, early.positions)
            )
            seen = norm(given[-1].to(hidden.device)[row, token])
            return torch.where(here.unsqueeze(1), seen, hidden)

        block = self.model.part(early.layer, "block")
        handle = block.register_forward_hook(lambda m, args, output: given.append(bare(output)))
        try:
            yield swap
        finally:
            handle.remove()

    def _run(self) -> dict[nn.Module, Seen]:
        def run(row: Tensor, token: Tensor) -> None:
            self.model.logits_at(self.reads.ids.to(self.model.device), row, token, use_cache=False)

        return self._record(self.reads.changed.unsqueeze(1), (), run)

    def _at(self, seen: Float[Tensor, "row place d"]) -> Float[Tensor, "row d"]:
        """What was seen at the changed tokens."""
        changed = self._tail().changed.to(seen.device)
        return seen[torch.arange(len(seen), device=seen.device), changed]

    def _tail(self) -> Reads:
        """The rows from the first recorded place on."""
        return replace(self.reads, changed=torch.zeros_like(self.reads.changed))

    def _record(
        self,
        places: Int[Tensor, "row place"],
        more: Sequence[Site],
        run: Callable[[Tensor, Tensor], object],
    ) -> dict[nn.Module, Seen]:
        """Run the unchanged model once; what the edited matrix, sites and `more` took and gave."""
        seen: dict[nn.Module, Seen] = {}
        shape = self.reads.ids.shape

        def at_places(hidden: Tensor) -> Tensor:
            rows = hidden.detach().reshape(*shape, -1)  # OPT's MLP sees rows and tokens as one
            at = places.to(hidden.device)
            return rows.gather(1, at.unsqueeze(2).expand(-1, -1, rows.shape[2]))

        def see(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            form = len(output) if isinstance(output, tuple) else 0
            taken = at_places(args[0]) if args else None
            seen[module] = Seen(taken, at_places(bare(output)), form)

        model, layer = self.model, self.layer
        modules = [model.part(layer, site) for site in (*self.sites, *more)]
        modules.append(model.matrix(layer, model.family.edited))
        with torch.no_grad(), ExitStack() as stack:
            for module in dict.fromkeys(modules):
                stack.callback(module.register_forward_hook(see).remove)
            one = torch.zeros(1, dtype=torch.long)  # the run is for what the hooks see
            run(one, one)
        return seen


class Downstream(Whole):
    """`Whole`, but a call runs only what the change can reach.

    A recorded run keeps what enters the layer, what the layer computes before the changed output,
    and keys and values of the tokens before the changed one: attention is causal, so none of these
    can change. A call runs the rest: the tokens from the changed one to the last wanted one,
    through the blocks from the layer on.
    """

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only."""
        super().keep(rows)
        self._rows, self._begin = self._rows[rows], self._begin[rows]
        width = self._places().shape[1]
        self._seen = {m: _only(seen, rows, width) for m, seen in self._seen.items()}

    def logits(
        self, changes: Changes, early: Early | None = None
    ) -> Float[Tensor, "position vocab"]:
        """Logits at the wanted places with `changes` added to their sites' outputs."""
        reads = self._tail()
        sites: set[Site] = {*self._kept, *changes}
        parts = {site: self.model.part(self.layer, site) for site in sites}
        replay = {
            parts[site]: partial(_replay, self._seen[parts[site]], reads, changes.get(site))
            for site in self._kept
        }
        live = {
            parts[site]: partial(_added, reads, change)
            for site, change in changes.items()
            if site not in self._kept
        }
        with self._lens(early, reads) as lens:
            return self._recording.resume(
                self.layer, self._rows, self._begin, (reads.row, reads.token), live, replay, lens
            )

    def _run(self) -> dict[nn.Module, Seen]:
        # A changed block output is all that counts; a changed attention output changes the MLP's.
        self._kept: tuple[Site, ...] = ("attention", "mlp")
        if "attention" in self.sites:
            self._kept = ("attention",)
        elif "block" in self.sites:
            self._kept = ("block",)
        reads = self.reads
        self._recording = Recording(self.model, reads.ids, [self.layer])
        self._rows = torch.arange(len(reads.ids))
        self._begin = reads.changed if self._recording.cuts else torch.zeros_like(reads.changed)
        return self._record(self._places(), self._kept, self._recording.run)

    def _tail(self) -> Reads:
        """The rows from where they begin."""
        reads, begin = self.reads, self._begin
        ids = reads.ids.gather(1, self._places())
        return Reads(ids, reads.changed - begin, reads.row, reads.token - begin[reads.row])

    def _places(self) -> Int[Tensor, "row place"]:
        reads, begin = self.reads, self._begin
        width = int((reads.token - begin[reads.row]).max()) + 1
        return (begin.unsqueeze(1) + torch.arange(width)).clamp(max=reads.ids.shape[1] - 1)


def _added(
    reads: Reads, change: Tensor, hidden: Float[Tensor, "row token d"]
) -> Float[Tensor, "row token d"]:
    """`hidden` with `change` added at each row's changed token."""
    rows = torch.arange(len(reads.ids))
    at = rows.to(hidden.device), reads.changed.to(hidden.device)
    return hidden.index_put(at, change.to(hidden), accumulate=True)


def _add(reads: Reads, change: Tensor, module: nn.Module, args: Any, output: Any) -> Any:
    """Hook: the output with `change` added."""
    hidden = bare(output)
    changed = _added(reads, change, hidden.view(*reads.ids.shape, -1)).view_as(hidden)
    return (changed, *output[1:]) if isinstance(output, tuple) else changed


def _replay(seen: Seen, reads: Reads, change: Tensor | None, *args: Any, **kwargs: Any) -> Any:
    """Forward: what was given before, with `change` added."""
    given = seen.given if change is None else _added(reads, change, seen.given)
    if args and args[0].ndim == 2:  # OPT's MLP sees rows and tokens as one
        given = given.flatten(0, 1)
    return formed(given, seen.form)


def _only(seen: Seen, rows: Tensor, width: int) -> Seen:
    at = rows.to(seen.given.device)
    taken = None if seen.taken is None else seen.taken[at, :width]
    return Seen(taken, seen.given[at, :width], seen.form)
