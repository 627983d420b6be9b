"""Teacher forcing of many rows at once, each under its own edit.

A question's answer is judged token by token: which token is the most likely after the prompt and
the answer's own tokens so far (EasyEdit's `test_prediction_acc`). Every accuracy is a reduction of
the `ScoredAnswer`s.

Two things differ from EasyEdit. Where a prompt ends or an answer begins with a space, no second one
is inserted. And rows do not affect each other: EasyEdit pads on the left without position ids, so
that on models with learned positions (GPT-2) a prompt's answer depends on its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lga_fast import memory, progress
from lga_fast.errors import ScoringError
from lga_fast.forward.per_row_edits import PerRowEdits
from lga_fast.models import EditableModel, ForwardJob, check_loaded
from lga_fast.models.tensor_utils import grad_mode, padded, wide
from lga_fast.tokens import Row, target_row
from lga_fast.weight_edit import WeightEdit


@dataclass(frozen=True)
class Question:
    """A prompt, and the answer whose tokens are judged."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class ScoredAnswer:
    """The model's predictions for the tokens of a question's answer."""

    row: Row
    predicted: tuple[int, ...]  # the most likely token ids
    log_probs: tuple[float, ...]  # of the answer's own tokens, in nats

    @property
    def accuracy(self) -> float:
        """Share of the answer's tokens that are the most likely ones."""
        return _share_equal(self.predicted, self.row.target)

    @property
    def log_prob(self) -> float:
        """Mean over the answer's tokens, in nats."""
        return sum(self.log_probs) / len(self.log_probs)

    def agreement(self, other: ScoredAnswer) -> float:
        """Share of tokens with the same prediction, right or wrong."""
        return _share_equal(self.predicted, other.predicted)


def score(
    model: EditableModel,
    questions: Sequence[Question | Row],
    edits: Sequence[WeightEdit | None] | None = None,
    *,
    batch_tokens: int = 4096,
    show_progress: bool | None = None,
) -> list[ScoredAnswer]:
    """Ask all questions in one pass, each of a model with its own edit.

    Equal to asking each alone inside `with model.edited(edit)`, up to rounding; the model is left
    as it was. Questions under one edit that differ only in the answer's last token share a row, so
    that the choices of a multiple-choice question cost as much as one.

    Args:
        model: see `lga_fast.load`.
        questions: or rows, which are tokenised questions.
        edits: one per question, None where there is none; None for all: the model as it stands.
        batch_tokens: most tokens in one forward, fewer where memory requires it.
        show_progress: None shows a bar on a terminal only.

    Raises:
        ScoringError: a row has no answer tokens or is longer than the model takes, or there is not
            one edit per question.
        EditError: an edit is not of this model.
    """
    check_loaded(model)
    if edits is not None and len(edits) != len(questions):
        raise ScoringError(f"edits: expected one per question, {len(questions)}, got {len(edits)}")
    rows = [
        q if isinstance(q, Row) else target_row(model.tokenizer, q.prompt, q.answer)
        for q in questions
    ]
    _check(model, rows)
    row_edits = PerRowEdits(model, edits or [None] * len(rows))
    same_inputs: dict[tuple[int, int, tuple[int, ...]], list[int]] = {}
    for i, row in enumerate(rows):
        same_inputs.setdefault((row_edits.of_row[i], row.start, row.ids[:-1]), []).append(i)
    groups = list(same_inputs.values())
    answers: dict[int, ScoredAnswer] = {}
    with (
        grad_mode(False),
        model.frozen(),
        progress.bar("asking questions", len(rows), show_progress) as advance,
    ):
        for together in _batch_groups(model, rows, groups, row_edits, batch_tokens):
            batches = [_Batch.of(rows, of_batch, row_edits) for of_batch in together]
            for batch, logits in zip(batches, _logits(model, batches, row_edits), strict=True):
                answers |= _answers(model, rows, batch.groups, logits)
                advance(sum(map(len, batch.groups)))
    return [answers[i] for i in range(len(rows))]


def _share_equal(a: Sequence[int], b: Sequence[int]) -> float:
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)


def _check(model: EditableModel, rows: Sequence[Row]) -> None:
    for row in rows:
        if row.start < 1 or not row.target:
            raise ScoringError(
                "expected a prompt and an answer of one token or more each, got "
                f"{row.start} and {len(row.target)} in {model.tokenizer.decode(row.ids)!r}"
            )
        if len(row.ids) > model.max_tokens:
            raise ScoringError(
                f"prompt and answer take {len(row.ids)} tokens, the model takes at most "
                f"{model.max_tokens}; shorten or remove {model.tokenizer.decode(row.ids)!r}"
            )


@dataclass(frozen=True)
class _Batch:
    """Groups of rows that run together: one row for each, and where its answers are read."""

    groups: Sequence[list[int]]  # of rows with the same inputs
    edits: Sequence[int]  # by row, number of its edit
    ids: Int[Tensor, "row token"]
    row: Int[Tensor, " position"]
    token: Int[Tensor, " position"]

    @classmethod
    def of(cls, rows: Sequence[Row], groups: Sequence[list[int]], row_edits: PerRowEdits) -> _Batch:
        first = [rows[group[0]] for group in groups]
        read = [(i, t) for i, row in enumerate(first) for t in _span(row)]
        edits = [row_edits.of_row[group[0]] for group in groups]
        return cls(groups, edits, padded([row.ids[:-1] for row in first]), *torch.tensor(read).T)


def _span(row: Row) -> range:
    """Positions whose logits judge the answer's tokens."""
    return range(row.start - 1, len(row.ids) - 1)


def _batch_groups(
    model: EditableModel,
    rows: Sequence[Row],
    groups: Sequence[list[int]],
    row_edits: PerRowEdits,
    batch_tokens: int,
) -> Iterator[list[list[list[int]]]]:
    """Groups of batches that memory can hold while they share each read of a streamed block."""
    batches = list(_batches(model, rows, groups, row_edits, batch_tokens))
    longest = [(len(rows[batch[0][0]].ids) - 1) * len(batch) for batch in batches]
    for group in model.groups(longest, model.memory.held_tokens):
        yield [batches[i] for i in group]


def _batches(
    model: EditableModel,
    rows: Sequence[Row],
    groups: Sequence[list[int]],
    row_edits: PerRowEdits,
    batch_tokens: int,
) -> Iterator[list[list[int]]]:
    """Groups of rows that run together, within `batch_tokens` and memory, longest rows first."""
    widths = {g: len(rows[group[0]].ids) - 1 for g, group in enumerate(groups)}
    labels = max((len(rows[groups[g][0]].target) / width for g, width in widths.items()), default=0)
    columns = row_edits.columns(batch_tokens // min(widths.values(), default=1))
    factors = 4 * columns * sum(model.edited_shape)
    # Without a backward no more than one block's activations are held at a time.
    activations = model.memory.block_token_bytes + 4 * columns
    per_token = activations + labels * model.memory.logit_bytes
    limit = min(batch_tokens, int((model.memory.activation_budget - factors) / per_token))
    for batch in memory.batches(widths, limit):
        yield [groups[g] for g in batch]


def _logits(
    model: EditableModel, batches: Sequence[_Batch], row_edits: PerRowEdits
) -> Iterator[Float[Tensor, "position vocab"]]:
    """Logits of each batch, at all positions that are read."""
    jobs = [
        ForwardJob(
            {"input_ids": batch.ids.to(model.device), "use_cache": False},
            batch.row,
            batch.token,
            partial(row_edits.on, batch.edits),
        )
        for batch in batches
    ]
    for logits, _ in model.logits_of(jobs):
        yield logits


def _answers(
    model: EditableModel,
    rows: Sequence[Row],
    groups: Sequence[list[int]],
    logits: Float[Tensor, "position vocab"],
) -> dict[int, ScoredAnswer]:
    """Read all answers of each group from its one row's logits."""
    offset, labels = 0, []  # index among the positions, and the answer's token
    for group in groups:
        labels += [(offset + k, t) for i in group for k, t in enumerate(rows[i].target)]
        offset += len(_span(rows[group[0]]))
    position, target = torch.tensor(labels, device=logits.device).T
    normalizer = wide(logits).logsumexp(-1)
    model.check_logits(normalizer)
    log_p = wide(logits[position, target]) - normalizer[position]
    predicted, log_probs = logits.argmax(-1)[position].tolist(), log_p.tolist()
    answers, at = {}, 0
    for i in (i for group in groups for i in group):
        end = at + len(rows[i].target)
        answers[i] = ScoredAnswer(rows[i], tuple(predicted[at:end]), tuple(log_probs[at:end]))
        at = end
    return answers
