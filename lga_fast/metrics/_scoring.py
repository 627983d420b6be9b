"""Teacher forcing of many rows at once, each under its own edit: what answers the model would give.

A question's answer is judged token by token: at each of its places, which token does the model find
most likely after the prompt and the answer's own tokens so far (EasyEdit's `test_prediction_acc`).
Every accuracy is then a cheap reduction of what is kept here.

Two things are not as in EasyEdit. Where a prompt ends or an answer begins with a space, no second
one is put between them. And no row knows of its neighbours: EasyEdit pads on the left and gives no
positions, so that on models with learned ones (GPT-2) a prompt's answer depends on its batch.
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
from lga_fast.models import EditableModel, ForwardJob
from lga_fast.models.tensor_utils import padded, wide
from lga_fast.tokens import Row, target_row
from lga_fast.weight_edit import WeightEdit


@dataclass(frozen=True)
class Question:
    """A prompt, and the answer whose tokens are judged."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Answered:
    """What the model makes of a question, at the places of the answer's tokens."""

    row: Row
    predicted: tuple[int, ...]  # the most likely token ids
    log_probs: tuple[float, ...]  # of the answer's own tokens, in nats

    @property
    def accuracy(self) -> float:
        """Share of the answer's tokens that are the most likely ones."""
        return _share_equal(self.predicted, self.row.target)

    def agreement(self, other: Answered) -> float:
        """Share of places with the same prediction, right or wrong."""
        return _share_equal(self.predicted, other.predicted)


def score(
    model: EditableModel,
    questions: Sequence[Question | Row],
    edits: Sequence[WeightEdit | None] | None = None,
    *,
    batch_tokens: int = 4096,
    show_progress: bool | None = None,
) -> list[Answered]:
    """Ask all questions in one pass, each of a model that carries its own edit.

    Equal to asking each alone inside `with model.edited(edit)`, to rounding; the model stays as it
    was. Questions under one edit that differ in nothing but the answer's last token are one row to
    the model, so that the choices of a multiple-choice question cost one.

    Args:
        model: see `lga_fast.load`.
        questions: or rows, which are questions that were tokenised before.
        edits: one per question, None where there is none; None for all: the model as it stands.
        batch_tokens: tokens in one forward at most; lowered where memory asks for it.
        show_progress: None shows a bar on a terminal only.

    Raises:
        ScoringError: a row has no answer tokens or is longer than the model takes, or there is not
            one edit per question.
        EditError: an edit is not of this model.
    """
    if edits is not None and len(edits) != len(questions):
        raise ScoringError(f"edits: expected one per question, {len(questions)}, got {len(edits)}")
    rows = [
        q if isinstance(q, Row) else target_row(model.tokenizer, q.prompt, q.answer)
        for q in questions
    ]
    _check(model, rows)
    virtual = PerRowEdits(model, edits or [None] * len(rows))
    alike: dict[tuple[int, int, tuple[int, ...]], list[int]] = {}
    for i, row in enumerate(rows):
        alike.setdefault((virtual.of_row[i], row.start, row.ids[:-1]), []).append(i)
    groups = list(alike.values())
    found: dict[int, Answered] = {}
    with (
        torch.no_grad(),
        model.frozen(),
        progress.bar("asking questions", len(rows), show_progress) as advance,
    ):
        for batches in _together(model, rows, groups, virtual, batch_tokens):
            asked = [_Asked.of(rows, batch, virtual) for batch in batches]
            for one, logits in zip(asked, _logits(model, asked, virtual), strict=True):
                found |= _answers(rows, one.batch, logits)
                advance(sum(map(len, one.batch)))
    return [found[i] for i in range(len(rows))]


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
class _Asked:
    """Groups of rows that run together: one row for each, and where its answers are read."""

    batch: Sequence[list[int]]
    edits: Sequence[int]  # by row, number of its edit
    ids: Int[Tensor, "row token"]
    row: Int[Tensor, " position"]
    token: Int[Tensor, " position"]

    @classmethod
    def of(cls, rows: Sequence[Row], batch: Sequence[list[int]], virtual: PerRowEdits) -> _Asked:
        first = [rows[group[0]] for group in batch]
        where = [(i, t) for i, row in enumerate(first) for t in _span(row)]
        edits = [virtual.of_row[group[0]] for group in batch]
        return cls(batch, edits, padded([row.ids[:-1] for row in first]), *torch.tensor(where).T)


def _span(row: Row) -> range:
    """Places whose logits judge the answer's tokens."""
    return range(row.start - 1, len(row.ids) - 1)


def _together(
    model: EditableModel,
    rows: Sequence[Row],
    groups: Sequence[list[int]],
    virtual: PerRowEdits,
    batch_tokens: int,
) -> Iterator[list[list[list[int]]]]:
    """Batches, those together that may wait while others run through a block read for all."""
    batches = list(_batches(model, rows, groups, virtual, batch_tokens))
    longest = [(len(rows[batch[0][0]].ids) - 1) * len(batch) for batch in batches]
    limit = model.memory.store_budget // model.memory.hidden_bytes
    for group in model.groups(longest, limit):
        yield [batches[i] for i in group]


def _batches(
    model: EditableModel,
    rows: Sequence[Row],
    groups: Sequence[list[int]],
    virtual: PerRowEdits,
    batch_tokens: int,
) -> Iterator[list[list[int]]]:
    """Groups of rows that run together, within `batch_tokens` and memory, longest rows first."""
    widths = {g: len(rows[group[0]].ids) - 1 for g, group in enumerate(groups)}
    labels = max((len(rows[groups[g][0]].target) / width for g, width in widths.items()), default=0)
    columns = virtual.columns(batch_tokens // min(widths.values(), default=1))
    factors = 4 * columns * sum(model.shape(0, model.family.edited))
    # Without a backward no more than one block's activations are held at a time.
    activations = model.memory.block_token_bytes + 4 * columns
    per_token = activations + labels * model.memory.logit_bytes
    limit = min(batch_tokens, int((model.memory.activation_budget - factors) / per_token))
    for batch in memory.batches(widths, limit):
        yield [groups[g] for g in batch]


def _logits(
    model: EditableModel, asked: Sequence[_Asked], virtual: PerRowEdits
) -> Iterator[Float[Tensor, "position vocab"]]:
    """Logits of each batch, at all places that are read."""
    jobs = [
        ForwardJob(
            {"input_ids": one.ids.to(model.device), "use_cache": False},
            one.row,
            one.token,
            partial(virtual.on, one.edits),
        )
        for one in asked
    ]
    for logits, _ in model.logits_of(jobs):
        yield logits


def _answers(
    rows: Sequence[Row], batch: Sequence[list[int]], logits: Float[Tensor, "position vocab"]
) -> dict[int, Answered]:
    """Read all answers of each group from its one row's logits."""
    offset, labels = 0, []  # place among the positions, and the token asked for
    for group in batch:
        labels += [(offset + k, t) for i in group for k, t in enumerate(rows[i].target)]
        offset += len(_span(rows[group[0]]))
    place, target = torch.tensor(labels, device=logits.device).T
    chosen = wide(logits[place, target]) - wide(logits).logsumexp(-1)[place]
    predicted, log_probs = logits.argmax(-1)[place].tolist(), chosen.tolist()
    found, at = {}, 0
    for i in (i for group in batch for i in group):
        end = at + len(rows[i].target)
        found[i] = Answered(rows[i], tuple(predicted[at:end]), tuple(log_probs[at:end]))
        at = end
    return found
