"""Token rows of old and new answers; the model is asked for the old ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lga_fast import memory
from lga_fast.errors import EditError, NothingToScore, ScoringError, warn
from lga_fast.forward import decoding
from lga_fast.models import EditableModel
from lga_fast.records import Dropped, EditRequest, ProbeKind
from lga_fast.scoring.options import DEFAULTS, ScoringOptions
from lga_fast.tokens import Row, target_row, token_at

# The probes of a request that a pass looks at: the first so many of each kind, in these slots.
SLOTS: dict[ProbeKind, range] = {"rephrase": range(2), "locality": range(2, 6)}

# Stands for an old answer's only token where the pass itself finds it: the model's most likely one
# after the prompt, which the pass runs anyway.
ASKED = -1


@dataclass(frozen=True)
class Pair:
    """One request's two rows; `old` is None in a pass over new answers only."""

    request: int  # place in the list of requests
    old: Row | None
    new: Row
    subject: int | None = None  # index of the subject's last token in both rows, if asked for
    probes: tuple[tuple[int, Row], ...] = ()  # with their slots, if asked for; see `SLOTS`

    @property
    def known(self) -> bool:
        """The old answer is the new one: the model has the fact already."""
        return self.old is not None and self.old.target == self.new.target

    def answered(self, token: int) -> Pair:
        """The pair with what the pass found in the place of `ASKED`, if that is there."""
        if self.old is None or self.old.target != (ASKED,):
            return self
        return replace(self, old=Row((*self.old.ids[:-1], token), self.old.start))


Groups = list[list[list[int]]]  # prompts by number: batches, and which of them run together

# Makes old answers: of a model, the prompts by request, how many tokens each may get, and how many
# tokens a batch may have.
Generate = Callable[
    [EditableModel, Mapping[int, Sequence[int]], Mapping[int, int], int],
    Mapping[int, Sequence[int]],
]


def generated(
    model: EditableModel,
    prompts: Mapping[int, Sequence[int]],
    lengths: Mapping[int, int],
    batch_tokens: int,
    begun: tuple[Mapping[int, list[int]], Groups] | None = None,
    keep: Callable[[Mapping[int, list[int]], Groups], None] | None = None,
) -> dict[int, list[int]]:
    """Greedy answers to prompts, by number.

    Args:
        model: with streamed weights, many batches get a token at each reading of the blocks.
        prompts: token ids.
        lengths: how many tokens each answer may have.
        batch_tokens: tokens of one batch at most.
        begun: answers of a run that was killed, and the groups of batches it had not finished.
        keep: takes the same of this run, before each group of batches.

    Warns:
        LgaFastWarning: memory did not suffice, so that it went on with smaller batches.
    """
    widths = {i: len(prompt) + lengths[i] for i, prompt in prompts.items()}
    answers, left = begun or ({}, decoding.decode_groups(model, widths, batch_tokens))
    answers, warned = dict(answers), False
    while left:
        if keep:
            keep(answers, left)
        more = _decoded(model, prompts, lengths, left[0])
        if more is not None:
            answers, left = answers | more, left[1:]
            continue
        sizes = [len(batch) * widths[batch[0]] for batch in left[0]]
        if not warned:
            warn(
                f"out of memory with {max(sizes)} tokens at a time while old answers are made; "
                "goes on with half as many. A smaller memory_budget avoids this."
            )
        warned = True
        rest = {i: widths[i] for batches in left for batch in batches for i in batch}
        left = decoding.decode_groups(model, rest, max(sizes) // 2, sum(sizes) // 2)
    return answers


def _decoded(
    model: EditableModel,
    prompts: Mapping[int, Sequence[int]],
    lengths: Mapping[int, int],
    batches: list[list[int]],
) -> dict[int, list[int]] | None:
    """Answers of batches that run in step; None: memory did not suffice, but does for less."""
    inputs = [([prompts[i] for i in batch], [lengths[i] for i in batch]) for batch in batches]
    try:
        answers = decoding.greedy_batches(model, inputs)
    except Exception as error:
        if not memory.out_of_memory(error) or (len(batches) == len(batches[0]) == 1):
            raise
        return None  # the traceback is gone with this, and what it held
    by_batch = zip(batches, answers, strict=True)
    return {i: a for batch, some in by_batch for i, a in zip(batch, some, strict=True)}


def build_pairs(
    model: EditableModel,
    requests: Sequence[EditRequest],
    options: ScoringOptions = DEFAULTS,
    generate: Generate = generated,
    ask: bool = False,
) -> tuple[list[Pair], list[Dropped]]:
    """Rows for every request; old answers are generated where they are not taken from the data.

    Args:
        model: whose tokenizer and, for generation, greedy decoding are used.
        requests: the facts to change.
        options: `old="model"` takes the model's own greedy answer, of as many tokens as
            `target_old` has, or as the new answer where there is none; "ground_truth" takes
            `target_old` where there is one; None generates nothing.
        generate: makes the old answers.
        ask: leave those of one token to the pass; see `ASKED`.

    Returns:
        Pairs in the order of the requests, and the requests that gave none; see `dropped`.

    Raises:
        ScoringError: a row is longer than the model takes.
        NothingToScore: no request gave a pair.
    """
    if not requests:
        raise NothingToScore("nothing to score: there are no requests")
    new_rows = [target_row(model.tokenizer, r.prompt, r.target_new) for r in requests]
    old_rows: dict[int, Row] = {
        i: target_row(model.tokenizer, r.prompt, r.target_old)
        for i, r in enumerate(requests)
        if r.target_old and r.target_old.strip()
    }
    subjects: dict[int, int | None] = {}
    probes: dict[int, tuple[tuple[int, Row], ...]] = {}
    if options.at_subject:
        subjects = {i: _subject(model, requests[i], new) for i, new in enumerate(new_rows)}
        probes = {i: _probes(model, requests[i]) for i, at in subjects.items() if at is not None}
    probed = [(i, row) for i, some in probes.items() for _, row in some]
    for i, row in [*enumerate(new_rows), *old_rows.items(), *probed]:
        if len(row.ids) > model.max_tokens:
            raise ScoringError(
                f"request {requests[i].case_id!r}: prompt and answer take {len(row.ids)} tokens, "
                f"the model takes at most {model.max_tokens}; shorten or remove it"
            )
    more = [(subjects.get(i), probes.get(i, ())) for i in range(len(requests))]
    if options.old is None:
        return [Pair(i, None, new, *more[i]) for i, new in enumerate(new_rows)], []
    lengths = {i: len(old_rows.get(i, new).target) for i, new in enumerate(new_rows)}
    if options.old == "model":
        old_rows = {}
    prompts = {i: new.ids[: new.start] for i, new in enumerate(new_rows) if i not in old_rows}
    generating = {i: p for i, p in prompts.items() if not (ask and lengths[i] == 1)}
    answers: dict[int, Sequence[int]] = dict.fromkeys(prompts, (ASKED,))
    answers.update(generate(model, generating, lengths, options.batch_tokens))
    old_rows |= {i: Row((*p, *answers[i]), len(p)) for i, p in prompts.items()}
    pairs = [
        Pair(i, old_rows[i], new, *more[i]) for i, new in enumerate(new_rows) if old_rows[i].target
    ]
    return pairs, dropped(requests, [pair.request for pair in pairs])


def dropped(requests: Sequence[EditRequest], places: Sequence[int]) -> list[Dropped]:
    """The requests at other places: a model that ends its text at once has no old answer.

    Raises:
        NothingToScore: all of them are.
    """
    left, why = set(places), "the model's own answer is empty (it ends the text at once)"
    others = [Dropped(r.case_id, why) for i, r in enumerate(requests) if i not in left]
    if not left:
        raise NothingToScore(f"nothing to score: {why}", others)
    return others


def _subject(model: EditableModel, request: EditRequest, row: Row) -> int | None:
    """Index of the subject's last token; None: there is none, or it cannot be located."""
    if request.subject_span is None:
        return None
    last, prompt = request.subject_span[1] - 1, row.ids[: row.start]
    try:
        return token_at(model.tokenizer, request.prompt, last, prompt)
    except EditError:
        return None


def _probes(model: EditableModel, request: EditRequest) -> tuple[tuple[int, Row], ...]:
    """Rows of paraphrases with the new answer, and of unrelated prompts with their own."""
    rows = []
    for kind, slots in SLOTS.items():
        answers = [
            (probe.prompt, request.target_new if kind == "rephrase" else probe.answer)
            for probe in request.probes
            if probe.kind == kind and probe.prompt.strip() and probe.answer.strip()
        ]
        rows += [(s, target_row(model.tokenizer, *a)) for s, a in zip(slots, answers, strict=False)]
    return tuple(rows)
