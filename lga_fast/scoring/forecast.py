"""What a pass will cost, before it runs: memory, reading, and seconds from measured rates."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from lga_fast.models import EditableModel, StreamedModel
from lga_fast.models.fused import fused_gelu
from lga_fast.records import EditRequest
from lga_fast.scoring import plan
from lga_fast.scoring.engine import LossScope, Reduction, check_options, check_pairs
from lga_fast.scoring.graph import backward
from lga_fast.scoring.pairs import OldAnswer, Row, build_pairs
from lga_fast.scoring.plan import size
from lga_fast.scoring.running import waiting_bytes
from lga_fast.scoring.sums import Pass


@dataclass(frozen=True)
class Streaming:
    """What a streamed pass reads, and how long it takes.

    `answer_reads` is how often all blocks are read for the old answers: once per token at most, of
    the batches whose keys and values (`cache_bytes`) fit into memory together.
    """

    read_bytes: int
    answer_reads: int
    cache_bytes: int
    waiting_bytes: int
    waits_in_memory: bool
    bytes_per_second: int  # of reading a block, measured
    seconds_reading: float
    seconds_computing: float
    seconds: float  # reading and computing overlap


@dataclass(frozen=True)
class Forecast:
    """What a pass will cost; upper bounds where the old answers are not known yet."""

    model: str
    facts: int
    batches: int
    batch_tokens: int  # of the largest batch
    memory: int  # the budget
    weights_bytes: int  # in memory at once; resident weights are outside the budget
    activation_bytes: int
    streaming: Streaming | None

    def __str__(self) -> str:
        """For people."""
        kind = "streamed" if self.streaming else "resident"
        lines = [
            f"{self.model}, {kind} weights: {self.facts} facts in {self.batches} batches of at "
            f"most {self.batch_tokens} tokens",
            f"memory: {size(self.weights_bytes)} weights, {size(self.activation_bytes)} "
            f"activations; budget {size(self.memory)}",
        ]
        if told := self.streaming:
            where = "in memory" if told.waits_in_memory else "in files"
            sweeps = f"2 sweeps over the blocks and {told.answer_reads} for old answers"
            if told.cache_bytes:
                lines[1] += f"; {size(told.cache_bytes)} keys and values for old answers"
            lines += [
                f"waiting between the sweeps: {size(told.waiting_bytes)} {where}",
                f"reading: {size(told.read_bytes)}, {sweeps}, at {size(told.bytes_per_second)}/s",
                f"time: about {told.seconds:.0f} s (reading {told.seconds_reading:.0f} s, "
                f"computing {told.seconds_computing:.0f} s, side by side)",
            ]
        return "\n".join(lines)


def forecast(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    *,
    old: OldAnswer | None = "model",
    abs_new: bool = False,
    loss_scope: LossScope = "target",
    reduction: Reduction = "mean",
    batch_tokens: int = 4096,
    resume: Any = None,
) -> Forecast:
    """What `score_layers` with these arguments will cost.

    Of streamed weights one block is read and run to measure both rates.

    Raises:
        ScoringError: as of `score_layers`.
        DataError: as of `score_layers`.
    """
    from lga_fast.datasets import easyedit_requests

    reads, caches = [0], [0]  # of batches whose old answers are decoded in step

    def guess(
        model: EditableModel,
        prompts: dict[int, tuple[int, ...]],
        lengths: dict[int, int],
        batch_tokens: int,
    ) -> dict[int, Row]:
        widths = {i: len(p) + lengths[i] for i, p in prompts.items()}
        for groups in plan.decoded(model, widths, batch_tokens):
            reads.append(max(lengths[i] for group in groups for i in group))
            tokens = sum(len(group) * widths[group[0]] for group in groups)
            caches.append(tokens * plan.cache_bytes(model))
        return {i: Row((*p, *p[-1:] * lengths[i]), len(p)) for i, p in prompts.items()}

    check_options(loss_scope, reduction)
    pairs, dropped = build_pairs(model, easyedit_requests(edits), old, batch_tokens, guess)
    check_pairs(pairs, dropped)
    scoring = Pass(model, pairs, loss_scope, reduction, abs_new)
    batches = list(scoring.batches(batch_tokens))
    tokens = [scoring.made(batch, packed).ids.numel() for batch, packed in batches]
    streaming = None
    if isinstance(model, StreamedModel):
        waiting = waiting_bytes(scoring, batches)
        in_memory = resume is None and waiting <= plan.waiting_left(model)
        streaming = _streaming(
            model, scoring, batches[0], tokens, (sum(reads), max(caches)), (waiting, in_memory)
        )
    weights = plan.weights_bytes(model) or sum(p.nbytes for p in model.hf.parameters())
    return Forecast(
        model=model.name,
        facts=len(pairs),
        batches=len(batches),
        batch_tokens=max(tokens),
        memory=plan.memory(model),
        weights_bytes=weights,
        activation_bytes=max(tokens) * plan.token_bytes(model),
        streaming=streaming,
    )


def _streaming(
    model: StreamedModel,
    scoring: Pass,
    batch: tuple[list[int], bool],
    tokens: list[int],
    answers: tuple[int, int],
    waits: tuple[int, bool],
) -> Streaming:
    answer_reads, caches = answers
    rate, forward, both = _rates_within_memory(model, scoring, *batch)
    read = model.sweep_bytes() / rate
    head = model.head_read_bytes() / rate
    compute = [sum(tokens) * rate for rate in (forward, both)]
    # An old answer's first token runs its prompt; of the tokens after it only the reading counts.
    first = [sum(tokens) / 2 * forward] if answer_reads else []
    sweeps = [*compute, *first, *[0.0] * (answer_reads - 1)]
    apart = head * (answer_reads + 1) + model.fingerprint_bytes() / rate
    return Streaming(
        read_bytes=len(sweeps) * model.sweep_bytes()
        + (answer_reads + 1) * model.head_read_bytes()
        + model.fingerprint_bytes(),
        answer_reads=answer_reads,
        cache_bytes=caches,
        waiting_bytes=waits[0],
        waits_in_memory=waits[1],
        bytes_per_second=int(rate),
        seconds_reading=len(sweeps) * read + apart,
        seconds_computing=sum(sweeps),
        seconds=sum(max(read, one) for one in sweeps) + apart,
    )


def _rates_within_memory(
    model: StreamedModel, scoring: Pass, batch: list[int], packed: bool
) -> tuple[float, float, float]:
    """`_rates`, of as much of the batch as memory suffices for."""
    while True:
        try:
            return _rates(model, scoring, batch, packed)
        except Exception as error:
            if not plan.out_of_memory(error) or len(batch) == 1:
                raise
        batch = batch[: len(batch) // 2]


def _rates(
    model: StreamedModel, scoring: Pass, batch: list[int], packed: bool
) -> tuple[float, float, float]:
    """Bytes per second of reading, and seconds per token of both sweeps through all blocks."""
    made = scoring.made(batch, packed)
    seconds = []
    began, before = time.perf_counter(), model.shards.bytes_read
    with model.frozen(), fused_gelu(model.hf), closing(model.walk([0])) as walk:
        next(walk)
        _wait(model)
        rate = (model.shards.bytes_read - before) / (time.perf_counter() - began)
        call = model.record(scoring.inputs(made))
        for gradients in (0, 0, 2 if packed else 1):  # the first one to warm up
            began = time.perf_counter()
            with torch.enable_grad(), scoring.taps(batch, made, [0], backwards=gradients):
                output = model.run(0, call.hidden, call)
                backward(output, [torch.ones_like(output)] * gradients)
            _wait(model)
            seconds.append((time.perf_counter() - began) * model.layers / made.ids.numel())
    return rate, seconds[1], seconds[2]


def _wait(model: EditableModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
