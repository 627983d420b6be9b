"""What a scoring pass will hold in memory and read, before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lga_fast import memory
from lga_fast.datasets import easyedit_requests
from lga_fast.forward import decoding
from lga_fast.memory import format_bytes
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.scoring import batch_layout
from lga_fast.scoring.layer_major_pass import store_bytes
from lga_fast.scoring.options import DEFAULTS, ScoringOptions
from lga_fast.scoring.pairs import build_pairs


@dataclass(frozen=True)
class Streaming:
    """What a streamed pass reads, and what waits between its sweeps; in bytes.

    `answer_reads` is how often all blocks are read for the old answers: at most once per token of
    the batches whose keys and values (`cache_bytes`) fit into memory together.
    """

    read_bytes: int
    answer_reads: int
    cache_bytes: int
    waiting_bytes: int
    waits_in_memory: bool

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"waiting between the sweeps: {format_bytes(self.waiting_bytes)} "
            f"{'in memory' if self.waits_in_memory else 'in files'}",
            f"reading: {format_bytes(self.read_bytes)}, 2 sweeps over the blocks and "
            f"{self.answer_reads} for old answers",
        ]


@dataclass(frozen=True)
class CostEstimate:
    """What a pass will hold and read; upper bounds where the old answers are not known yet."""

    model: str
    facts: int
    batches: int
    batch_tokens: int  # of the largest batch
    checkpointed: int  # batches that keep only what enters their blocks, and run these twice
    memory: int  # the budget
    weights_bytes: int  # in memory at once; resident weights are outside the budget
    weights: str  # what they are, for people
    activation_bytes: int
    streaming: Streaming | None

    def __str__(self) -> str:
        """For people."""
        streaming = self.streaming
        lines = [
            f"{self.model}, {'streamed' if streaming else 'resident'} weights: facts {self.facts}, "
            f"batches {self.batches}, each of at most {self.batch_tokens} tokens",
            f"weights: {format_bytes(self.weights_bytes)}, {self.weights}",
            f"activations: {format_bytes(self.activation_bytes)} at most",
        ]
        if streaming and streaming.cache_bytes:
            caches = format_bytes(streaming.cache_bytes)
            lines[-1] += f", or {caches} keys and values while old answers are made"
        lines[-1] += f"; the memory budget is {format_bytes(self.memory)}"
        lines[-1] += " in all" if streaming else " beside the weights"
        if self.checkpointed:
            lines.append(memory.describe_checkpointed(self.checkpointed, self.batches))
        return "\n".join(lines + (streaming.lines() if streaming else []))


def estimate_cost(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    options: ScoringOptions = DEFAULTS,
    resume: Any = None,
) -> CostEstimate:
    """What `score_layers` with these options will hold and read; nothing of the model runs.

    Raises:
        ScoringError: as of `score_layers`.
        DataError: as of `score_layers`.
    """
    answers = _Answers()
    pairs, _ = build_pairs(model, easyedit_requests(edits), options, answers.guess, ask=True)
    with model.frozen():
        batches = batch_layout.plan_batches(model, pairs, options, options.batch_tokens)
    layouts = [batch_layout.lay_out(model, pairs, batch, options) for batch in batches]
    streaming = None
    if model.streamed:
        waiting, heads = store_bytes(model, layouts), answers.reads + 1
        backward = model.sweep_bytes(model.mlp_layers[0])  # no gradient goes further down
        streaming = Streaming(
            read_bytes=heads * model.sweep_bytes()
            + backward
            + heads * model.head_read_bytes()
            + model.fingerprint_bytes(),
            answer_reads=answers.reads,
            cache_bytes=max(answers.caches, default=0),
            waiting_bytes=waiting,
            waits_in_memory=resume is None and waiting <= model.memory.store_budget,
        )
    return CostEstimate(
        model=model.name,
        facts=len(pairs),
        batches=len(batches),
        batch_tokens=max(layout.ids.numel() for layout in layouts),
        checkpointed=sum(batch.checkpointed for batch in batches),
        memory=model.memory.budget,
        weights_bytes=model.memory.weights_bytes or sum(p.nbytes for p in model.hf.parameters()),
        weights=model.memory.describe_weights(),
        activation_bytes=max(
            layout.ids.numel() * model.memory.token_bytes(batch.checkpointed)
            + len(layout.label) * model.memory.logit_bytes
            for layout, batch in zip(layouts, batches, strict=True)
        ),
        streaming=streaming,
    )


@dataclass
class _Answers:
    """What making old answers takes."""

    reads: int = 0  # forwards through all blocks
    caches: list[int] = field(default_factory=list)  # bytes, by group of batches decoded in step

    def guess(
        self,
        model: EditableModel,
        prompts: Mapping[int, Sequence[int]],
        lengths: Mapping[int, int],
        batch_tokens: int,
    ) -> dict[int, list[int]]:
        """Answers as long as they may be."""
        widths = {i: len(p) + lengths[i] for i, p in prompts.items()}
        for group in decoding.decode_groups(model, widths, batch_tokens):
            self.reads += max(lengths[i] for batch in group for i in batch)
            tokens = sum(len(batch) * widths[batch[0]] for batch in group)
            self.caches.append(tokens * model.memory.cache_bytes)
        return {i: [p[-1]] * lengths[i] for i, p in prompts.items()}
