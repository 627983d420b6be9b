"""The scoring pass: old and new rows together, one forward, one backward to activations only.

What several processes, streamed weights or activations that do not fit need beside this is imported
where it is needed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lga_fast import distributed, files, memory, progress, provenance
from lga_fast.datasets import LoadedEdits, easyedit_requests
from lga_fast.errors import warn
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.layer_scores import LayerScores
from lga_fast.models import EditableModel, check_loaded
from lga_fast.records import EditRequest
from lga_fast.scoring.batch_layout import Batch, plan_batches
from lga_fast.scoring.options import LossScope, OldAnswer, Reduction, ScoringOptions
from lga_fast.scoring.pairs import ASKED, build_pairs, dropped
from lga_fast.scoring.scoring_pass import ScoringPass
from lga_fast.tokens import writes_spaces

if TYPE_CHECKING:
    from lga_fast.scoring.checkpoint import RunCheckpoint


def score_layers(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    *,
    old: OldAnswer | None = "model",
    abs_new: bool = False,
    at_subject: bool = False,
    loss_scope: LossScope = "target",
    reduction: Reduction = "mean",
    batch_tokens: int = 4096,
    resume: str | Path | None = None,
    show_progress: bool | None = None,
) -> LayerScores:
    """Inner products of old- and new-answer gradients of every MLP parameter, per request.

    φ_l(i) = <∇_θl ℓ(Q_i∪K_i), ∇_θl ℓ(Q_i∪K'_i)> (arXiv 2602.20207 §5.1). Weights are frozen; the
    gradients' factors are contracted inside the backward and dropped, so nothing of a weight's
    size is formed. The model is left as it was.

    Args:
        model: see `lga_fast.load`.
        edits: requests, or dicts in EasyEdit's form.
        old: where the old answers come from; see `scoring.pairs.build_pairs`. None: new answers
            only, which costs less than half.
        abs_new: collect the sums of the new answers' absolute gradients too.
        at_subject: collect what a change at the subject's last token would do, to first order, to
            the new answer and to the first probes; see `LayerScores`.
        loss_scope: "target": cross entropy of the answer's tokens; "full": of the prompt's too.
        reduction: over a row's labelled tokens.
        batch_tokens: tokens in one pass at most; lowered where memory asks for it.
        resume: folder in which a pass with streamed weights keeps its state after every block,
            and old answers once the batches decoded together are finished. A killed pass
            continues from there, with the same bits in the end. Each rank has its own folder in it.
        show_progress: None shows bars on a terminal only.

    Raises:
        ScoringError: no request is left to score, an option is unknown, memory does not suffice,
            or `resume` holds another pass.
        RanksError: inside `distributed.ranks()`, the ranks differ in what they score, or one ended.
        DataError: a dict is not an edit request.

    Warns:
        LgaFastWarning: `resume` is given but the weights are in memory, as `load` chose; or memory
            ran out, and all began again with smaller batches or checkpointed.
    """
    check_loaded(model)
    options = ScoringOptions(old, abs_new, at_subject, loss_scope, reduction, batch_tokens)
    requests = easyedit_requests(edits)
    score = partial(_score, model, options, resume, show_progress)
    if distributed.current().size == 1:
        return score(requests)[0]
    from lga_fast.scoring.data_parallel import over_ranks

    return over_ranks(model, requests, options, score)


def _score(
    model: EditableModel,
    options: ScoringOptions,
    resume: str | Path | None,
    show_progress: bool | None,
    requests: LoadedEdits,
) -> tuple[LayerScores, list[int]]:
    """Scores, and the places of the requests that they are of; one process."""
    checkpoint = None
    if resume is not None:
        from lga_fast.scoring import checkpoint as checkpoints

        checkpoint = checkpoints.opened(resume, model, requests, options)
    if model.streamed and progress.shown(show_progress):
        from lga_fast.scoring.cost_estimate import estimate_cost

        progress.log(str(estimate_cost(model, requests, options, resume)))
    started = time.perf_counter()
    with files.locked(checkpoint and checkpoint.folder), model.frozen():
        make = partial(build_pairs, model, requests, options, ask=True)
        with progress.bar("old answers", 1, show_progress) if model.streamed else nullcontext():
            pairs, _ = checkpoint.pairs(make) if checkpoint else make()
        answered = time.perf_counter()
        scoring = ScoringPass(model, pairs, options)
        _run(scoring, checkpoint, show_progress)
    seconds = {"seconds_old_answers": answered - started}
    seconds["seconds_scoring"] = time.perf_counter() - answered
    ends = model.end_ids()
    left = [i for i, answer in enumerate(scoring.answers.tolist()) if answer not in ends]
    places = [pairs[i].request for i in left]
    scores = _layer_scores(scoring, requests, seconds).take(left)
    return replace(scores, dropped=tuple(dropped(requests, places))), places


def _run(
    scoring: ScoringPass, checkpoint: RunCheckpoint | None, show_progress: bool | None
) -> None:
    """Score all pairs; again with smaller batches, or checkpointed, if memory runs out."""
    model, pairs, options = scoring.model, scoring.pairs, scoring.options
    limit, checkpointed, warned = options.batch_tokens, False, False
    while True:
        batches = plan_batches(model, pairs, options, limit, checkpointed)
        batches = checkpoint.batches(batches) if checkpoint else batches
        twice = sum(batch.checkpointed for batch in batches)
        if twice and progress.shown(show_progress):
            progress.log(memory.describe_checkpointed(twice, len(batches)))
        scoring.start()
        if _fits(scoring, batches, checkpoint, show_progress):
            return
        limit = max(scoring.layout(batch).ids.numel() for batch in batches)
        checkpointed = all(len(batch.pairs) == 1 for batch in batches)
        how = ", keeping only what enters the blocks" if checkpointed else " with half as many"
        if checkpointed or not warned:
            warn(
                f"out of memory with {limit} tokens at a time; starts over{how}. "
                "A smaller memory_budget avoids this."
            )
        limit, warned = limit // 2, True
        if checkpoint:
            checkpoint.start_over()


def _fits(
    scoring: ScoringPass,
    batches: Sequence[Batch],
    checkpoint: RunCheckpoint | None,
    show_progress: bool | None,
) -> bool:
    """Score these batches; False: memory did not suffice, but does perhaps in another way."""
    try:
        with fast_gelu(scoring.model.hf):
            if scoring.model.streamed:
                from lga_fast.scoring.layer_major_pass import run_streamed

                store = checkpoint.store if checkpoint else None
                run_streamed(scoring, batches, store, show_progress)
            else:
                _run_resident(scoring, batches, show_progress)
    except Exception as error:
        if not memory.out_of_memory(error) or _least(scoring.model, batches):
            raise
        return False  # the traceback is gone with this, and what it held
    return True


def _run_resident(scoring: ScoringPass, batches: Sequence[Batch], show: bool | None) -> None:
    with progress.bar("scoring facts", len(scoring.pairs), show) as advance:
        for batch in batches:
            if batch.checkpointed:
                from lga_fast.scoring.layer_major_pass import run_checkpointed

                run_checkpointed(scoring, batch)
            else:
                scoring.run(batch)
            advance(len(batch.pairs))
    scoring.finish()


def _least(model: EditableModel, batches: Sequence[Batch]) -> bool:
    """Whether there is no way of running these pairs with less memory."""
    if any(len(batch.pairs) > 1 for batch in batches):
        return False
    can_checkpoint = not model.streamed and model.block_runner() is not None
    return not can_checkpoint or all(batch.checkpointed for batch in batches)


def _layer_scores(
    scoring: ScoringPass,
    requests: LoadedEdits,
    seconds: dict[str, float],
) -> LayerScores:
    """What the pass has added up, by parameter."""
    model, pairs, options = scoring.model, scoring.pairs, scoring.options
    values, losses, answers = scoring.sums, scoring.losses, scoring.answers.tolist()
    per_expert = {name: dot.numpy() for name, dot in scoring.per_expert.items()}
    known = np.array([p.answered(t).known for p, t in zip(pairs, answers, strict=True)])
    says_new = scoring.says_new.numpy()
    if options.old is None:
        values[:2], losses[0], per_expert, known = torch.nan, torch.nan, {}, says_new
    case_ids = [request.case_id for request in requests]
    names = model.parameter_names()
    parts = [dict(zip(names, part.numpy(), strict=True)) for part in values]
    return LayerScores(
        case_ids=tuple(case_ids[pair.request] for pair in pairs),
        dot=parts[0],
        norm2_old=parts[1],
        norm2_new=parts[2],
        loss_old=losses[0].numpy(),
        loss_new=losses[1].numpy(),
        known=known,
        says_new=says_new,
        edited=model.family.edited,
        abs_new={n: parts[3][n] for n in names if n.endswith("weight")} if options.abs_new else {},
        at_subject=scoring.at_subject.results() if scoring.at_subject else {},
        sizes={n: np.array([model.size(i, n) for i in range(model.layers)]) for n in names},
        per_expert={name: per_expert[name] for name in names if name in per_expert},
        kinds=tuple(sorted({request.kind for request in requests})),
        provenance=provenance.of(model)
        | {name: getattr(options, name) for name in ("old", "loss_scope", "reduction")}
        | {"data": asdict(requests.provenance)}
        | {"unspaced": sum(not writes_spaces(r.prompt, r.target_new) for r in requests)}
        | seconds
        | {
            "sequence_forwards": scoring.sequence_forwards + _generated(requests, scoring),
            "peak_bytes": provenance.peak_bytes(model.device),
        },
    )


def _generated(requests: Sequence[EditRequest], scoring: ScoringPass) -> int:
    """Old answers made before the pass; with a cache each costs about one forward."""
    if scoring.options.old is None:
        return 0
    count = len(requests) - int((scoring.answers != ASKED).sum())
    if scoring.options.old == "ground_truth":
        count -= sum(bool(r.target_old and r.target_old.strip()) for r in requests)
    return count
