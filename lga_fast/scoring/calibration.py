"""How fast this machine reads and runs one block of a model, measured on the spot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from lga_fast import memory
from lga_fast.models import EditableModel
from lga_fast.models.block_runner import BlockRunner
from lga_fast.scoring.batch_layout import Batch
from lga_fast.scoring.scoring_pass import ScoringPass, backward


@dataclass(frozen=True)
class Computing:
    """Seconds of computing, of all blocks."""

    forward: float  # per token
    both: float  # per token, forward and backward
    step: float  # one more token of each row of a batch
    label: float  # a label's hidden state through the head and back


@dataclass(frozen=True)
class Reading:
    """Bytes per second of streamed weights."""

    stored: float  # from where the files lie
    held: float  # where the system still holds the files in its memory


def measured(scoring: ScoringPass, batch: Batch) -> tuple[Computing, Reading | None]:
    """Rates of a batch, or of as much of it as memory suffices for; the model is frozen."""
    while True:
        try:
            return _measured(scoring, batch)
        except Exception as error:
            if not memory.out_of_memory(error) or len(batch.pairs) == 1:
                raise
        batch = batch._replace(pairs=batch.pairs[: len(batch.pairs) // 2])


def _measured(scoring: ScoringPass, batch: Batch) -> tuple[Computing, Reading | None]:
    model, walked = scoring.model, scoring.walked
    assert walked
    layer = model.layers // 2  # the first blocks of a mixture of experts may have none
    if not model.streamed:
        return _computing(scoring, walked, layer, batch), None
    model.shards.forget(model.shards.names(f"{model.family.blocks}.{layer}."))
    with closing(walked.walk([layer])) as walk:
        stored = _reading(model, walk)
    with closing(walked.walk([layer])) as walk:
        held = _reading(model, walk)
        return _computing(scoring, walked, layer, batch), Reading(stored, held)


def _reading(model: EditableModel, walk: Iterator[int]) -> float:
    before = model.shards.bytes_read
    with _timed(model) as seconds:
        next(walk)
    return (model.shards.bytes_read - before) / seconds[0]


def _computing(scoring: ScoringPass, walked: BlockRunner, layer: int, batch: Batch) -> Computing:
    """Of the block that the walk is at."""
    model, made = scoring.model, scoring.made(batch)
    calls = [walked.record(scoring.inputs(made))]
    first = {"input_ids": made.ids[:, :1].to(model.device), "use_cache": False}
    calls.append(walked.record(first))
    with FlopCounterMode(display=False) as operations, torch.no_grad():  # also to warm up
        walked.run(layer, calls[0].hidden, calls[0])
    seconds = []
    for gradients in (0, 2 if batch.packed else 1):
        # Of every block but the first, gradients of what enters are wanted too.
        hidden = calls[0].hidden.detach().requires_grad_()
        with (
            _timed(model) as taken,
            torch.enable_grad(),
            scoring.taps(batch.pairs, made, [layer], backwards=gradients),
        ):
            output = walked.run(layer, hidden, calls[0])
            backward(output, [torch.ones_like(output)] * gradients)
        seconds += taken
    with torch.no_grad():
        for _ in range(2):  # the first one to warm up
            with _timed(model) as taken:
                walked.run(layer, calls[1].hidden, calls[1])
    tokens = made.ids.numel()
    forward, both = (one * model.layers / tokens for one in seconds)
    if model.streamed:  # its head is not there to be timed
        head = 2 * 2 * model.hf.get_output_embeddings().weight.numel()
        label = head * seconds[0] / operations.get_total_flops()
    else:
        hidden = calls[0].hidden
        with _timed(model) as at_head, torch.enable_grad(), walked.after_blocks(hidden):
            scoring.head(batch.pairs, made)
        label = at_head[0] / len(made.label)
    return Computing(forward, both, taken[0] * model.layers, label)


@contextmanager
def _timed(model: EditableModel) -> Iterator[list[float]]:
    """A list that gets the seconds that it took inside."""
    seconds: list[float] = []
    _wait(model)
    began = time.perf_counter()
    yield seconds
    _wait(model)
    seconds.append(time.perf_counter() - began)


def _wait(model: EditableModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
