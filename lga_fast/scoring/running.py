"""Running a pass: in memory or streamed, and again with smaller batches if memory runs out."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lga_fast import progress
from lga_fast.models import StreamedModel
from lga_fast.models.fused import fused_gelu
from lga_fast.scoring import plan
from lga_fast.scoring.resuming import Batches, State
from lga_fast.scoring.streamed import Sweeps
from lga_fast.scoring.sums import Pass
from lga_fast.scoring.waiting import InFolder, InMemory


def run(scoring: Pass, batch_tokens: int, state: State | None, show_progress: bool | None) -> None:
    """Score all pairs.

    Args:
        scoring: what to run; it has the results afterwards.
        batch_tokens: tokens in one batch at most.
        state: of a streamed pass, where it goes on.
        show_progress: see `score_layers`.

    Warns:
        UserWarning: memory did not suffice, so that all began again with smaller batches.
    """
    limit, warned = batch_tokens, False
    while True:
        batches = list(scoring.batches(limit))
        batches = state.batches(lambda found=batches: found) if state else batches
        if _fits(scoring, batches, state, show_progress):
            return
        limit = max(_tokens(scoring, batches)) // 2
        if not warned:
            warnings.warn(
                f"out of memory with {2 * limit} tokens at a time; starts over with half as many. "
                "A smaller memory_budget avoids this.",
                stacklevel=3,
            )
        warned = True
        if state:
            state.start_over()


def waiting_bytes(scoring: Pass, batches: Batches) -> int:
    """Bytes that wait between the sweeps: what enters blocks and the head, gradients of two."""
    vector = scoring.model.config.hidden_size * torch.finfo(scoring.model.dtype).bits // 8
    vectors = 0
    for tokens, (_, packed) in zip(_tokens(scoring, batches), batches, strict=True):
        vectors += tokens * (scoring.model.layers + 1 + 2 * (2 if packed else 1))
    return vectors * vector


def _fits(scoring: Pass, batches: Batches, state: State | None, show_progress: bool | None) -> bool:
    """Score these batches; False: memory did not suffice, but does perhaps for smaller ones."""
    scoring.sequence_forwards = 0
    try:
        with ExitStack() as stack:
            stack.enter_context(fused_gelu(scoring.model.hf))
            if not isinstance(scoring.model, StreamedModel):
                _resident(scoring, batches, show_progress)
                return True
            waiting = state.waiting if state else InMemory()
            if not state and waiting_bytes(scoring, batches) > plan.waiting_left(scoring.model):
                folder = stack.enter_context(TemporaryDirectory(prefix="lga_fast-"))
                waiting = InFolder(Path(folder))
            Sweeps(scoring, batches, waiting, show_progress).run()
    except Exception as error:
        if not plan.out_of_memory(error) or max(len(batch) for batch, _ in batches) == 1:
            raise
        return False  # the traceback is gone with this, and what it held
    return True


def _resident(scoring: Pass, batches: Batches, show_progress: bool | None) -> None:
    with progress.bar("scoring facts", len(scoring.pairs), show_progress) as advance:
        for batch, packed in batches:
            scoring.run(batch, packed)
            advance(len(batch))


def _tokens(scoring: Pass, batches: Batches) -> list[int]:
    return [scoring.made(batch, packed).ids.numel() for batch, packed in batches]
