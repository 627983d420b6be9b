"""The scoring pass: old and new rows together, one forward, one backward to activations only."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lga_fast import distributed, progress, provenance
from lga_fast.datasets import LoadedEdits
from lga_fast.errors import ScoringError
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerScores
from lga_fast.scoring import data_parallel
from lga_fast.scoring.checkpoint import RunCheckpoint
from lga_fast.scoring.execute import run
from lga_fast.scoring.options import LossScope, Reduction, check_options, check_pairs
from lga_fast.scoring.pairs import OldAnswer, build_pairs
from lga_fast.scoring.scoring_pass import ScoringPass


def score_layers(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    *,
    old: OldAnswer | None = "model",
    abs_new: bool = False,
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
        UserWarning: `resume` is given, and `load` chose to have the weights in memory.
    """
    from lga_fast.datasets import easyedit_requests

    check_options(loss_scope, reduction)
    requests = easyedit_requests(edits)
    options = {
        "old": old,
        "abs_new": abs_new,
        "loss_scope": loss_scope,
        "reduction": reduction,
        "batch_tokens": batch_tokens,
    }
    score = partial(_score, model, options, resume, show_progress)
    return data_parallel.over_ranks(model, requests, options, score)


def _score(
    model: EditableModel,
    options: dict[str, Any],
    resume: str | Path | None,
    show_progress: bool | None,
    requests: LoadedEdits,
) -> tuple[LayerScores, list[int]]:
    """Scores, and the places of the requests that they are of; one process."""
    old, abs_new, batch_tokens = (options[name] for name in ("old", "abs_new", "batch_tokens"))
    state = _state(resume, model, requests, options)
    if model.streamed and progress.shown(show_progress):
        from lga_fast.scoring.cost_estimate import estimate_cost

        progress.log(str(estimate_cost(model, requests, **options, resume=resume)))
    started = time.perf_counter()
    with model.frozen():
        make = partial(build_pairs, model, requests, old, batch_tokens)
        streamed = model.streamed
        with progress.bar("old answers", 1, show_progress) if streamed else nullcontext():
            pairs, dropped = state.pairs(make) if state else make()
        answered = time.perf_counter()
        check_pairs(pairs, dropped)
        scoring = ScoringPass(model, pairs, options["loss_scope"], options["reduction"], abs_new)
        run(scoring, batch_tokens, state, show_progress)
        values, losses = scoring.sums.cpu(), scoring.losses
        per_expert = {name: dot.cpu().numpy() for name, dot in scoring.per_expert.items()}
    if old is None:
        values[:2], losses[0], per_expert = torch.nan, torch.nan, {}
    names = model.parameter_names()
    parts = [dict(zip(names, part.numpy(), strict=True)) for part in values]
    known = [p.known for p in pairs]
    scores = LayerScores(
        case_ids=tuple(requests[p.request].case_id for p in pairs),
        dot=parts[0],
        norm2_old=parts[1],
        norm2_new=parts[2],
        loss_old=losses[0].numpy(),
        loss_new=losses[1].numpy(),
        known=scoring.says_new.numpy() if old is None else torch.tensor(known).numpy(),
        says_new=scoring.says_new.numpy(),
        edited=model.family.edited,
        abs_new={n: parts[3][n] for n in names if n.endswith("weight")} if abs_new else {},
        sizes={name: _elements(model, name) for name in names},
        per_expert={name: per_expert[name] for name in names if name in per_expert},
        kinds=tuple(sorted({r.kind for r in requests})),
        dropped=tuple(dropped),
        provenance=provenance.of(model)
        | {
            **{name: options[name] for name in ("old", "loss_scope", "reduction")},
            "data": asdict(requests.provenance),
            "seconds_old_answers": answered - started,
            "seconds_scoring": time.perf_counter() - answered,
            "sequence_forwards": scoring.sequence_forwards + _generated(requests, old),
            "peak_bytes": provenance.peak_bytes(model.device),
        },
    )
    return scores, [p.request for p in pairs]


def _state(
    resume: str | Path | None, model: EditableModel, requests: Any, options: dict[str, Any]
) -> RunCheckpoint | None:
    if resume is None:
        return None
    if not model.streamed:
        why = f"resume={str(resume)!r}: the weights are in memory, and only a pass with streamed "
        if model.placement.startswith("weights: resident"):  # `load` chose so
            warnings.warn(f"{why}ones keeps what it finds. Nothing is kept.", stacklevel=5)
            return None
        raise ScoringError(
            f"{why}ones has states between blocks. Drop resume=, or load the model with "
            "weights='streamed'."
        )
    return RunCheckpoint(distributed.current().folder(Path(resume)), model, requests, options)


def _generated(requests: Sequence[EditRequest], old: OldAnswer | None) -> int:
    """Old answers that the model was asked for; with a cache each costs about one forward."""
    if old == "ground_truth":
        return sum(not (r.target_old and r.target_old.strip()) for r in requests)
    return len(requests) if old else 0


def _elements(model: EditableModel, name: str) -> np.ndarray:
    return np.array([model.size(layer, name) for layer in range(model.layers)])
