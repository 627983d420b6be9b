"""What finding values costs where weights are streamed: said beforehand, shown meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from lga_fast import distributed, memory, progress
from lga_fast.editors._value_problem import Optimisation
from lga_fast.models import EditableModel

_aloud = ContextVar("aloud", default=False)


def say_cost(
    model: EditableModel,
    hows: Mapping[int, Optimisation],
    batches: Sequence[Sequence[int]],
    show: bool | None,
) -> None:
    """Say what is going to be read for batches of facts, at each of these layers."""
    if not _said(show):
        return
    count, last = sum(map(len, batches)), model.layers - 1
    facts = "1 fact" if count == 1 else f"{count} facts"
    groups = f"in {len(batches)} batches" if len(batches) > 1 else "all at once"
    once = model.sweep_bytes() + model.head_read_bytes()
    total = once * len(batches)  # of the unchanged model, whatever the layers
    for layer, how in hows.items():
        blocks = model.sweep_bytes(layer)
        total += len(batches) * how.steps * (2 * blocks + model.head_read_bytes())
        progress.log(
            f"editing {facts} at layer {layer} with streamed weights, {groups}: up to "
            f"{how.steps} steps, each reads blocks {layer} to {last} twice, 2 x "
            f"{memory.format_bytes(blocks)}"
        )
    progress.log(f"up to {memory.format_bytes(total)} read in all; a fact leaves when it is learnt")


def say_readings(model: EditableModel, what: str, times: int, size: int, show: bool | None) -> None:
    """Say that so many bytes are read so many times for what comes before the values."""
    if model.streamed and _said(show):
        progress.log(f"{what} with streamed weights: {times} x {memory.format_bytes(size)} read")


def say_sequence(model: EditableModel, facts: int) -> None:
    """Say that an edit of several facts shares no readings between them."""
    if model.streamed and facts > 1 and _said(None):
        progress.log(
            f"{facts} facts one after another, each on the model that those before it left: what "
            "follows is read for each of them; edits that need not build on each other share it"
        )


@contextmanager
def costs_said() -> Iterator[None]:
    """Costs are said while inside, also where no bars are shown; of several ranks the first's."""
    token = _aloud.set(True)
    try:
        yield
    finally:
        _aloud.reset(token)


def _said(show: bool | None) -> bool:
    aloud = _aloud.get() and show is None and distributed.current().is_rank_zero
    return progress.shown(show) or aloud


@contextmanager
def steps_shown(model: EditableModel, layer: int, steps: int, show: bool | None) -> Iterator[None]:
    """A bar of the steps of one batch, for they may take minutes each."""
    if not model.streamed:
        yield
        return
    with progress.bar(f"steps at layer {layer}", steps, show) as advance:
        handle = model.hf.register_forward_hook(lambda *args: advance(1))
        try:
            yield
        finally:
            handle.remove()
