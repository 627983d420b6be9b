"""What a change at one layer can reach: later blocks, and no token before the changed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from lga_fast.models.editable import EditableModel
from lga_fast.models.tensors import additive_mask

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
        self.keys, self.outputs = edited.taken[:, 0], edited.given[:, 0]
        self.initial = {site: self._seen[model.part(layer, site)].given[:, 0] for site in sites}

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
        handle = block.register_forward_hook(lambda m, args, output: given.append(_bare(output)))
        try:
            yield swap
        finally:
            handle.remove()

    def _run(self) -> dict[nn.Module, Seen]:
        return self._record(self.reads.changed.unsqueeze(1))

    def _record(
        self,
        places: Int[Tensor, "row place"],
        more: Sequence[Site] = (),
        cache: DynamicCache | None = None,
    ) -> dict[nn.Module, Seen]:
        """Run the unchanged model once; what the edited matrix, sites and `more` took and gave."""
        seen: dict[nn.Module, Seen] = {}
        ids = self.reads.ids.to(self.model.device)

        def at_places(hidden: Tensor) -> Tensor:
            rows = hidden.detach().reshape(*ids.shape, -1)  # OPT's MLP sees rows and tokens as one
            at = places.to(hidden.device)
            return rows.gather(1, at.unsqueeze(2).expand(-1, -1, rows.shape[2]))

        def see(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            form = len(output) if isinstance(output, tuple) else 0
            taken = at_places(args[0]) if args else None
            seen[module] = Seen(taken, at_places(_bare(output)), form)

        model, layer = self.model, self.layer
        modules = [model.part(layer, site) for site in (*self.sites, *more)]
        modules.append(model.matrix(layer, model.family.edited))
        with torch.no_grad(), ExitStack() as stack:
            for module in dict.fromkeys(modules):
                stack.callback(module.register_forward_hook(see).remove)
            zero = torch.zeros(1, dtype=torch.long)
            model.logits_at(ids, zero, zero, past_key_values=cache, use_cache=cache is not None)
        return seen


class Downstream(Whole):
    """`Whole`, but a call runs only what the change can reach.

    The recorded run keeps what enters the layer, what the layer computes before the changed output,
    and, of the blocks after it, the keys and values of the tokens before the changed one: attention
    is causal, so none of these can change. A call runs the rest: the tokens from the changed one to
    the last wanted one, through the blocks from the layer on.
    """

    @staticmethod
    def serves(model: EditableModel, width: int) -> bool:
        """Whether rows of up to `width` tokens can be run so; `Whole` serves the others."""
        return model.takes_masks and width <= model.window

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only."""
        super().keep(rows)
        self._cache = self._cache.only(rows)
        self._lay_out()
        width = self._places.shape[1]
        self._seen = {m: _only(seen, rows, width) for m, seen in self._seen.items()}

    def logits(
        self, changes: Changes, early: Early | None = None
    ) -> Float[Tensor, "position vocab"]:
        """Logits at the wanted places with `changes` added to their sites' outputs."""
        model, layer = self.model, self.layer
        block = model.part(layer, "block")
        forwards: dict[nn.Module, Callable[..., Any]] = {}
        for below in range(layer):
            forwards[model.part(below, "block")] = partial(_hand_on, self._seen[block].form)
        with ExitStack() as stack:
            for site in self._kept:
                module, change = model.part(layer, site), changes.get(site)
                forwards[module] = partial(_replay, self._seen[module], change)
            for site in set(changes) - set(self._kept):
                hook = partial(_add, self._tail, changes[site])
                stack.callback(model.part(layer, site).register_forward_hook(hook).remove)
            entering = self._seen[block].taken
            hook = block.register_forward_pre_hook(lambda m, args: (entering, *args[1:]))
            stack.callback(hook.remove)
            stack.enter_context(_replaced(forwards))
            tail, device = self._tail, model.device
            lens = stack.enter_context(self._lens(early, tail))
            logits, _ = model.logits_at(
                tail.ids.to(device),
                tail.row,
                tail.token,
                lens,
                position_ids=self._places.to(device),
                attention_mask=self._mask.to(device),
                past_key_values=self._cache,
                use_cache=True,
            )
        return logits

    def _run(self) -> dict[nn.Module, Seen]:
        # A changed block output is all that counts; a changed attention output changes the MLP's.
        self._kept: tuple[Site, ...] = ("attention", "mlp")
        if "attention" in self.sites:
            self._kept = ("attention",)
        elif "block" in self.sites:
            self._kept = ("block",)
        self._cache = _Prefix(self.layer, int(self.reads.changed.max()))
        self._lay_out()
        return self._record(self._places, (*self._kept, "block"), self._cache)

    def _lay_out(self) -> None:
        """Ids, places and mask of the tokens that run."""
        reads = self.reads
        width = int((reads.token - reads.changed[reads.row]).max()) + 1
        places = reads.changed.unsqueeze(1) + torch.arange(width)
        self._places = places.clamp(max=reads.ids.shape[1] - 1)
        ids = reads.ids.gather(1, self._places)
        token = reads.token - reads.changed[reads.row]
        self._tail = Reads(ids, torch.zeros_like(reads.changed), reads.row, token)
        before = torch.arange(self._cache.width) >= reads.changed.view(-1, 1, 1)
        causal = torch.ones(width, width, dtype=torch.bool).triu(1)
        hidden = (before.expand(-1, width, -1), causal.expand(len(ids), -1, -1))
        self._mask = additive_mask(torch.cat(hidden, 2), self.model.dtype)


class _Prefix(DynamicCache):
    """Keys and values of a row's first tokens: stored when first seen, put before later ones."""

    def __init__(self, layer: int, width: int):
        super().__init__()
        self.layer, self.width = layer, width
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        states = key_states, value_states
        if layer_idx in self.kept:
            keys, values = (torch.cat(x, 2) for x in zip(self.kept[layer_idx], states, strict=True))
            return keys, values
        if layer_idx > self.layer:  # a copy: the whole row's would be held otherwise
            keys, values = (x[:, :, : self.width].clone() for x in states)
            self.kept[layer_idx] = keys, values
        return states

    def only(self, rows: Tensor) -> _Prefix:
        """The cache of these rows."""
        found = _Prefix(self.layer, self.width)
        for layer, (keys, values) in self.kept.items():
            at = rows.to(keys.device)
            found.kept[layer] = keys[at], values[at]
        return found


def _add(reads: Reads, change: Tensor, module: nn.Module, args: Any, output: Any) -> Any:
    """Hook: the output with `change` added at each row's changed token."""
    bare = _bare(output)
    rows, places = torch.arange(len(reads.ids)), reads.changed
    at = rows.to(bare.device), places.to(bare.device)
    hidden = bare.view(*reads.ids.shape, -1).index_put(at, change.to(bare), accumulate=True)
    return _formed(hidden.view_as(bare), len(output) if isinstance(output, tuple) else 0)


def _replay(seen: Seen, change: Tensor | None, *args: Any, **kwargs: Any) -> Any:
    """Forward: what was given before, with `change` added at the first place."""
    given = seen.given
    if change is not None:
        first = given[:, :1] + change.to(given).unsqueeze(1)
        given = torch.cat([first, given[:, 1:]], 1)
    if args and args[0].ndim == 2:  # OPT's MLP sees rows and tokens as one
        given = given.flatten(0, 1)
    return _formed(given, seen.form)


def _hand_on(form: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Forward of a block that is skipped."""
    return _formed(hidden, form)


def _bare(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _formed(hidden: Tensor, form: int) -> Any:
    return (hidden, *[None] * (form - 1)) if form else hidden


def _only(seen: Seen, rows: Tensor, width: int) -> Seen:
    at = rows.to(seen.given.device)
    taken = None if seen.taken is None else seen.taken[at, :width]
    return Seen(taken, seen.given[at, :width], seen.form)


@contextmanager
def _replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules run these instead of their own forward while inside."""
    before = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                vars(module).pop("forward", None)
            else:
                module.forward = forward
