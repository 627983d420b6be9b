"""What a pass will cost, before it runs: memory, reading, and seconds from measured rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lga_fast import memory
from lga_fast.forward import decoding
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.memory import format_bytes
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.scoring.batch_layout import Batch
from lga_fast.scoring.calibration import Computing, Reading, measured
from lga_fast.scoring.execute import waiting_bytes
from lga_fast.scoring.options import LossScope, Reduction, check_options, check_pairs
from lga_fast.scoring.pairs import OldAnswer, build_pairs
from lga_fast.scoring.scoring_pass import ScoringPass


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
    bytes_per_second: int  # of reading a block from where its file lies, measured
    held_bytes_per_second: int  # the same where the system still holds the file in its memory
    seconds_reading: float  # the first time from the files, then from memory where that holds them
    seconds: float  # in all: reading and computing overlap
    held_seconds: float  # in all, where the system holds the files in its memory from the start

    def lines(self, computing: str) -> list[str]:
        """For people."""
        return [
            f"waiting between the sweeps: {format_bytes(self.waiting_bytes)} "
            f"{'in memory' if self.waits_in_memory else 'in files'}",
            f"reading: {format_bytes(self.read_bytes)}, 2 sweeps over the blocks and "
            f"{self.answer_reads} for old answers, at {format_bytes(self.bytes_per_second)}/s, or "
            f"{format_bytes(self.held_bytes_per_second)}/s of what the system holds in its memory",
            f"time: {_seconds(self.seconds)} (computing {computing} and reading "
            f"{_seconds(self.seconds_reading)}, side by side); {_seconds(self.held_seconds)} if "
            "the system holds the files in its memory already",
        ]


@dataclass(frozen=True)
class CostEstimate:
    """What a pass will cost; upper bounds where the old answers are not known yet."""

    model: str
    facts: int
    batches: int
    batch_tokens: int  # of the largest batch
    checkpointed: int  # batches that keep only what enters their blocks, and run these twice
    memory: int  # the budget
    weights_bytes: int  # in memory at once; resident weights are outside the budget
    weights: str  # what they are, for people
    activation_bytes: int
    seconds_computing: float  # nan: not known, as the blocks of this model cannot run one by one
    streaming: Streaming | None

    def __str__(self) -> str:
        """For people."""
        told = self.streaming
        lines = [
            f"{self.model}, {'streamed' if told else 'resident'} weights: facts {self.facts}, "
            f"batches {self.batches}, each of at most {self.batch_tokens} tokens",
            f"weights: {format_bytes(self.weights_bytes)}, {self.weights}",
            f"activations: {format_bytes(self.activation_bytes)} at most",
        ]
        if told and told.cache_bytes:
            caches = format_bytes(told.cache_bytes)
            lines[-1] += f", or {caches} keys and values while old answers are made"
        lines[-1] += f"; the memory budget is {format_bytes(self.memory)}"
        lines[-1] += " in all" if told else " beside the weights"
        if self.checkpointed:
            lines.append(memory.describe_checkpointed(self.checkpointed, self.batches))
        computing = _seconds(self.seconds_computing)
        return "\n".join([*lines, *(told.lines(computing) if told else [f"time: {computing}"])])


def estimate_cost(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    *,
    old: OldAnswer | None = "model",
    abs_new: bool = False,
    loss_scope: LossScope = "target",
    reduction: Reduction = "mean",
    batch_tokens: int = 4096,
    resume: Any = None,
) -> CostEstimate:
    """What `score_layers` with these arguments will cost.

    One block is run to measure how long that takes; a streamed one is read twice before.

    Raises:
        ScoringError: as of `score_layers`.
        DataError: as of `score_layers`.
    """
    from lga_fast.datasets import easyedit_requests

    answers = _Answers()
    check_options(loss_scope, reduction)
    requests = easyedit_requests(edits)
    pairs, dropped = build_pairs(model, requests, old, batch_tokens, answers.guess)
    check_pairs(pairs, dropped)
    scoring = ScoringPass(model, pairs, loss_scope, reduction, abs_new)
    with model.frozen(), fast_gelu(model.hf):
        batches = list(scoring.batches(batch_tokens))
        largest = max(batches, key=lambda batch: scoring.made(batch).ids.numel())
        computing, reading = measured(scoring, largest) if scoring.walked else (None, None)
    sweeps, apart = _seconds_computing(scoring, batches, computing, answers)
    streaming = None
    if model.streamed and reading:
        waiting = waiting_bytes(scoring, batches)
        in_memory = resume is None and waiting <= model.memory.store_budget
        streaming = _streaming(model, reading, sweeps, apart, answers, (waiting, in_memory))
    return CostEstimate(
        model=model.name,
        facts=len(pairs),
        batches=len(batches),
        batch_tokens=scoring.made(largest).ids.numel(),
        checkpointed=sum(batch.checkpointed for batch in batches),
        memory=model.memory.budget,
        weights_bytes=model.memory.weights_bytes or sum(p.nbytes for p in model.hf.parameters()),
        weights=model.memory.describe_weights(),
        activation_bytes=max(scoring.activation_bytes(batch) for batch in batches),
        seconds_computing=sum(sweeps) + apart,
        streaming=streaming,
    )


@dataclass
class _Answers:
    """What making old answers takes; by group of batches whose tokens are made in step."""

    reads: list[int] = field(default_factory=list)  # forwards through all blocks
    batches: list[int] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)  # tokens
    tokens: int = 0  # of all answers
    caches: list[int] = field(default_factory=list)  # bytes

    def guess(
        self,
        model: EditableModel,
        prompts: Mapping[int, Sequence[int]],
        lengths: Mapping[int, int],
        batch_tokens: int,
    ) -> dict[int, list[int]]:
        """Answers as long as they may be."""
        widths = {i: len(p) + lengths[i] for i, p in prompts.items()}
        self.tokens = sum(lengths[i] for i in prompts)
        for groups in decoding.decode_groups(model, widths, batch_tokens):
            self.reads.append(max(lengths[i] for group in groups for i in group))
            self.batches.append(len(groups))
            longest = (len(group) * max(len(prompts[i]) for i in group) for group in groups)
            self.prompts.append(sum(longest))
            tokens = sum(len(group) * widths[group[0]] for group in groups)
            self.caches.append(tokens * model.memory.cache_bytes)
        return {i: [p[-1]] * lengths[i] for i, p in prompts.items()}


def _seconds_computing(
    scoring: ScoringPass, batches: Sequence[Batch], rates: Computing | None, answers: _Answers
) -> tuple[list[float], float]:
    """Of the sweeps over the blocks, in their order, and of the rest."""
    if rates is None:
        return [], math.nan
    made = [scoring.made(batch) for batch in batches]
    twice = scoring.model.streamed
    again = sum(
        m.ids.numel() for m, b in zip(made, batches, strict=True) if twice or b.checkpointed
    )
    sweeps: list[float] = []
    for reads, count, tokens in zip(answers.reads, answers.batches, answers.prompts, strict=True):
        sweeps += [tokens * rates.forward, *[count * rates.step] * (reads - 1)]
    sweeps += [again * rates.forward, sum(m.ids.numel() for m in made) * rates.both]
    labels = sum(len(m.label) for m in made) + answers.tokens / 2  # which do not go back
    return sweeps, labels * rates.label


def _streaming(
    model: EditableModel,
    rates: Reading,
    computing: Sequence[float],
    apart: float,
    answers: _Answers,
    waits: tuple[int, bool],
) -> Streaming:
    blocks, head, answer_reads = model.sweep_bytes(), model.head_read_bytes(), sum(answers.reads)
    once, later = head + model.fingerprint_bytes(), answer_reads * head
    again = rates.held if model.memory.page_cache_holds(blocks + once) else rates.stored

    def seconds(first: float, again: float, computing: Sequence[float], apart: float) -> float:
        by_sweep = zip([first, *[again] * (len(computing) - 1)], computing, strict=True)
        read = sum(max(blocks / rate, one) for rate, one in by_sweep)
        return read + once / first + later / again + apart

    return Streaming(
        read_bytes=len(computing) * blocks + once + later,
        answer_reads=answer_reads,
        cache_bytes=max(answers.caches, default=0),
        waiting_bytes=waits[0],
        waits_in_memory=waits[1],
        bytes_per_second=int(rates.stored),
        held_bytes_per_second=int(rates.held),
        seconds_reading=seconds(rates.stored, again, [0.0] * len(computing), 0.0),
        seconds=seconds(rates.stored, again, computing, apart),
        held_seconds=seconds(rates.held, rates.held, computing, apart),
    )


def _seconds(count: float) -> str:
    """Seconds for people."""
    if math.isnan(count):
        return "not known"
    for unit, scale in (("h", 3600), ("min", 60)):
        if count >= 3 * scale:
            return f"about {count / scale:.0f} {unit}"
    return f"about {count:.1f} s" if count < 10 else f"about {count:.0f} s"
