"""For streamed weights only: what an edit will read is logged before, a bar moves during it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

from lga_fast import distributed, memory, progress
from lga_fast.editors._value_problem import Optimisation
from lga_fast.errors import named_layers
from lga_fast.models import EditableModel
from lga_fast.models.module_patching import hooked
from lga_fast.undo import undone

_verbose = ContextVar("verbose", default=False)


def log_optimisation(
    model: EditableModel,
    optimisations: Mapping[int, Optimisation],
    groups: Sequence[Sequence[int]],
    batches: Sequence[Sequence[int]],
    show: bool | None,
) -> None:
    """Log what batches of facts will read, at each of these groups of layers."""
    if not _enabled(show):
        return
    count, last = sum(map(len, batches)), model.layers - 1
    facts = "1 fact" if count == 1 else f"{count} facts"
    batched = f"in {len(batches)} batches" if len(batches) > 1 else "all at once"
    once = model.sweep_bytes() + model.head_read_bytes()
    total = once * len(batches)  # the clean run, shared by all layers
    for group in groups:
        first, steps = group[0], optimisations[group[0]].steps
        blocks = model.sweep_bytes(first)
        total += len(batches) * steps * (2 * blocks + model.head_read_bytes())
        progress.log(
            f"editing {facts} at {named_layers(group)} with streamed weights, {batched}: up to "
            f"{steps} steps, each reads blocks {first} to {last} twice, 2 x "
            f"{memory.format_bytes(blocks)}"
        )
    progress.log(
        f"up to {memory.format_bytes(total)} read in all; facts drop out of the batch once they "
        "converge"
    )


def log_reads(what: str, times: int, size: int, show: bool | None) -> None:
    """Log that a step before the optimisation reads so many bytes so many times."""
    if _enabled(show):
        progress.log(f"{what} with streamed weights: {times} x {memory.format_bytes(size)} read")


def log_sequence(facts: int) -> None:
    """Log that facts that are edited in sequence do not share their reads."""
    if _enabled(None):
        progress.log(
            f"{facts} facts one after another, each on the model that those before it left: what "
            "follows is read for each of them; independent edits would share it"
        )


@contextmanager
def verbose_costs() -> Iterator[None]:
    """Costs of edits inside are logged on rank 0, also where no bars are shown."""
    with undone((), partial(_verbose.set, _verbose.get())):
        _verbose.set(True)
        yield


def _enabled(show: bool | None) -> bool:
    is_verbose = _verbose.get() and show is None and distributed.current().is_rank_zero
    return progress.shown(show) or is_verbose


@contextmanager
def step_bar(
    model: EditableModel, group: Sequence[int], steps: int, show: bool | None
) -> Iterator[None]:
    """A bar over the steps of one batch, each of which may take minutes."""
    with (
        progress.bar(f"steps at {named_layers(group)}", steps, show) as advance,
        hooked(model.hf.register_forward_hook, lambda *args: advance(1)),
    ):
        yield
