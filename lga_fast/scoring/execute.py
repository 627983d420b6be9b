"""Running a pass: in memory or streamed, and again with smaller batches if memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from lga_fast import memory, progress
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.forward.tensor_store import DiskStore, MemoryStore
from lga_fast.scoring.batch_layout import Batch
from lga_fast.scoring.checkpoint import RunCheckpoint
from lga_fast.scoring.layer_major_pass import LayerMajorPass
from lga_fast.scoring.scoring_pass import ScoringPass


def run(
    scoring: ScoringPass, batch_tokens: int, state: RunCheckpoint | None, show_progress: bool | None
) -> None:
    """Score all pairs.

    Args:
        scoring: what to run; it has the results afterwards.
        batch_tokens: tokens in one batch at most.
        state: of a streamed pass, where it goes on.
        show_progress: see `score_layers`.

    Warns:
        UserWarning: memory did not suffice, so that all began again with smaller batches; or, of
            one pair at a time, that the activations of resident weights are computed twice.
    """
    limit, checkpointed, warned = batch_tokens, False, False
    while True:
        batches = list(scoring.batches(limit, checkpointed))
        batches = state.batches(lambda found=batches: found) if state else batches
        twice = sum(batch.checkpointed for batch in batches)
        if twice and progress.shown(show_progress):
            progress.log(memory.describe_checkpointed(twice, len(batches)))
        if _fits(scoring, batches, state, show_progress):
            return
        limit, checkpointed = max(_tokens(scoring, batches)), max(map(_pairs, batches)) == 1
        how = ", keeping only what enters the blocks" if checkpointed else " with half as many"
        if checkpointed or not warned:
            warnings.warn(
                f"out of memory with {limit} tokens at a time; starts over{how}. "
                "A smaller memory_budget avoids this.",
                stacklevel=5,
            )
        limit, warned = limit // 2, True
        if state:
            state.start_over()


def waiting_bytes(scoring: ScoringPass, batches: Sequence[Batch]) -> int:
    """Bytes that wait between the sweeps: what enters blocks and the head, gradients of two."""
    vectors = 0
    for tokens, batch in zip(_tokens(scoring, batches), batches, strict=True):
        vectors += tokens * (scoring.model.layers + 1 + 2 * (2 if batch.packed else 1))
    return vectors * scoring.model.memory.hidden_bytes


def _fits(
    scoring: ScoringPass,
    batches: Sequence[Batch],
    state: RunCheckpoint | None,
    show_progress: bool | None,
) -> bool:
    """Score these batches; False: memory did not suffice, but does perhaps in another way."""
    scoring.sequence_forwards = 0
    try:
        with ExitStack() as stack:
            stack.enter_context(fast_gelu(scoring.model.hf))
            if not scoring.model.streamed:
                _resident(scoring, batches, show_progress)
                return True
            waiting = state.waiting if state else MemoryStore()
            if not state and waiting_bytes(scoring, batches) > scoring.model.memory.store_budget:
                folder = stack.enter_context(TemporaryDirectory(prefix="lga_fast-"))
                waiting = DiskStore(Path(folder))
            LayerMajorPass(scoring, batches, waiting, show_progress).run()
    except Exception as error:
        if not memory.out_of_memory(error) or _least(scoring, batches):
            raise
        return False  # the traceback is gone with this, and what it held
    return True


def _resident(scoring: ScoringPass, batches: Sequence[Batch], show_progress: bool | None) -> None:
    with progress.bar("scoring facts", len(scoring.pairs), show_progress) as advance:
        for batch in batches:
            if batch.checkpointed:
                LayerMajorPass(scoring, [batch], MemoryStore(None), show_progress=False).run()
            else:
                scoring.run(batch)
            advance(len(batch.pairs))


def _least(scoring: ScoringPass, batches: Sequence[Batch]) -> bool:
    """Whether there is no way of running these pairs with less memory."""
    if max(map(_pairs, batches)) > 1:
        return False
    plain = not scoring.model.streamed and scoring.walked
    return not plain or all(batch.checkpointed for batch in batches)


def _pairs(batch: Batch) -> int:
    return len(batch.pairs)


def _tokens(scoring: ScoringPass, batches: Sequence[Batch]) -> list[int]:
    return [scoring.made(batch).ids.numel() for batch in batches]
