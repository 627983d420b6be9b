"""Token rows of old and new answers: where a prompt ends and its answer begins, in token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lga_fast.errors import NothingToScore, ScoringError
from lga_fast.models import EditableModel
from lga_fast.records import Dropped, EditRequest
from lga_fast.scoring.old_answers import generated
from lga_fast.scoring.options import ScoringOptions
from lga_fast.tokens import Row, target_row


@dataclass(frozen=True)
class Pair:
    """One request's two rows; `old` is None in a pass over new answers only."""

    request: int  # place in the list of requests
    old: Row | None
    new: Row

    @property
    def known(self) -> bool:
        """The old answer is the new one: the model has the fact already."""
        return self.old is not None and self.old.target == self.new.target


# Old answers: of a model, the prompts by request, how many tokens each may get, tokens at a time.
Generate = Callable[
    [EditableModel, Mapping[int, Sequence[int]], Mapping[int, int], int],
    Mapping[int, Sequence[int]],
]

_DEFAULTS = ScoringOptions()


def build_pairs(
    model: EditableModel,
    requests: Sequence[EditRequest],
    options: ScoringOptions = _DEFAULTS,
    generate: Generate = generated,
) -> tuple[list[Pair], list[Dropped]]:
    """Rows for every request; old answers are generated where they are not taken from the data.

    Args:
        model: whose tokenizer and, for generation, greedy decoding are used.
        requests: the facts to change.
        options: `old="model"` takes the model's own greedy answer, of as many tokens as
            `target_old` has, or as the new answer where there is none; "ground_truth" takes
            `target_old` where there is one; None generates nothing.
        generate: makes the old answers.

    Returns:
        Pairs in the order of the requests, and the requests that gave none: a model that ends its
        text at once has no old answer.

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
    for i, row in [*enumerate(new_rows), *old_rows.items()]:
        if len(row.ids) > model.max_tokens:
            raise ScoringError(
                f"request {requests[i].case_id!r}: prompt and answer take {len(row.ids)} tokens, "
                f"the model takes at most {model.max_tokens}; shorten or remove it"
            )
    if options.old is None:
        return [Pair(i, None, new) for i, new in enumerate(new_rows)], []
    lengths = {i: len(old_rows.get(i, new).target) for i, new in enumerate(new_rows)}
    if options.old == "model":
        old_rows = {}
    prompts = {i: new.ids[: new.start] for i, new in enumerate(new_rows) if i not in old_rows}
    answers = generate(model, prompts, lengths, options.batch_tokens)
    old_rows |= {i: Row((*p, *answers[i]), len(p)) for i, p in prompts.items()}
    pairs = [Pair(i, old_rows[i], new) for i, new in enumerate(new_rows) if old_rows[i].target]
    dropped = [
        Dropped(r.case_id, "the model's own answer is empty (it ends the text at once)")
        for i, r in enumerate(requests)
        if not old_rows[i].target
    ]
    if not pairs:
        reasons = sorted({one.reason for one in dropped})
        raise NothingToScore(f"nothing to score: {'; '.join(reasons)}", dropped)
    return pairs, dropped
