"""Reach: how much of the loss an edit could remove at each layer, to first order."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast import editors
from lga_fast.errors import ScoringError
from lga_fast.layer_scores import LayerScores
from lga_fast.models import EditableModel
from lga_fast.options import option
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.scoring.options import ScoringOptions
from lga_fast.selectors import _averaged
from lga_fast.selectors._editing_options import EditingOptions
from lga_fast.selectors._gradient_selector import GradientSelector, zero_gradients
from lga_fast.selectors._selector import (
    Resampling,
    excluded,
    refuse_equal,
    with_notes,
    without_part,
)
from lga_fast.sweep import statistics


@dataclass(frozen=True)
class Selector(Resampling, EditingOptions, GradientSelector):
    """The layer where an edit serves best, as far as a first-order forecast tells.

    An editor moves a value, the MLP's or the block's output at the subject's last token, by at most
    b: `clamp` times its norm, or what its steps reach. To first order that lowers the new answer's
    loss by at most b·‖g‖, where g is the loss's gradient there, and never by more than the loss: a
    change of length min(b, loss / ‖g‖). Of it the part w is written: all of it by ROME; by R-ROME
    what the bare prompt's key has of the contexts' mean key; by EMMET, MEMIT, PMET and AlphaEdit
    what their damping leaves. That makes a step of length α = w · min(b, loss / ‖g‖). The edit is
    taken as (-α g/‖g‖) kᵀ/‖k‖², k the key there, so that what it does to any other answer is α
    times an inner product of two gradients. The score is the mean of what a fact has of three
    parts: the share of the loss that is removed after its prompt and after its paraphrases, and
    exp(-|change|) of unrelated answers' log-probability. It needs no old answer, and does not
    change where weights before the matrix are scaled up and the matrix down, as inner products of
    whole weights' gradients do.
    """

    clamp: float | None = option(
        None, "Largest change in units of the value's norm; default: the editor's.", above=0
    )

    def check(self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]) -> None:
        """Refuse options of the editor that do not fit the model."""
        with warnings.catch_warnings():  # `completed` gives them
            warnings.simplefilter("ignore")
            self._editor(model)

    def _editor(self, model: EditableModel) -> editors.LayerEditor:
        layer = min(model.editable_layers, default=0)  # any that has a matrix of its own
        given = {} if self.clamp is None else {"clamp": self.clamp}
        return editors.resolve(model, self.editor, layer, self.preset, self.config, given)[0]

    def pass_options(self) -> ScoringOptions:
        """What happens at the subject, for new answers only."""
        return replace(super().pass_options(), at_subject=True)

    def completed(
        self, model: EditableModel, requests: Sequence[EditRequest], scores: LayerScores
    ) -> LayerScores:
        """With what the editor could write: `bound` and `written` of `editors.outlook`."""
        started = time.perf_counter()
        by_id = {request.case_id: request for request in requests}
        scored = [by_id[case_id] for case_id in scores.case_ids]
        with_subject = [i for i, request in enumerate(scored) if request.subject_span]
        layers, editor = model.editable_layers, self._editor(model)
        shape = scores.at_subject["gradient"].shape
        found = {name: np.full(shape, np.nan) for name in ("bound", "written")}
        if with_subject and layers:
            some = [scored[i] for i in with_subject]
            for name, values in editors.outlook(model, layers, some, editor).items():
                found[name][np.ix_(with_subject, layers)] = values
        about = scores.provenance | {
            "configuration": {"editor": self.editor, "config": asdict(editor)},
            "sequence_forwards": scores.provenance["sequence_forwards"]
            + len(with_subject) * (editor.rows - 1),
            "seconds_scoring": scores.provenance["seconds_scoring"] + time.perf_counter() - started,
        }
        return replace(scores, at_subject=scores.at_subject | found, provenance=about)

    def aggregate(self, scores: LayerScores) -> LayerRanking:
        """The ranking that these scores give.

        Layers that cannot be edited have the score 0 and are excluded. Requests whose subject is
        not in their prompt, and those of which nothing is left to reach, are left out and noted.

        Raises:
            ScoringError: no request is left, a score is not finite, or all are zero.
        """
        bound = scores.at_subject["bound"]
        subject, certain = ~np.isnan(bound).all(1), scores.loss_new == 0
        use = subject & ~certain
        if not use.any():
            raise ScoringError(
                f"reach: none of {len(use)} requests has its subject in its prompt and a new "
                "answer that the model does not give with certainty"
            )
        fixed = np.isnan(bound[use]).all(0)  # layers that cannot be edited
        editable = np.flatnonzero(~fixed)
        used = scores.take(np.flatnonzero(use).tolist())
        removed, forecast = self._forecast(used)
        removed[:, fixed] = forecast[:, fixed] = 0
        _averaged.check_finite(self.name, forecast, used.case_ids)
        if not removed.any():  # 1 at every layer is an answer: all serve
            refuse_equal(self.name, removed[0, editable].tolist(), zero_gradients(scores))
        mean = forecast.mean(0)
        order = editable[np.argsort(-mean[editable], kind="stable")]
        shares = np.zeros(len(mean))
        if self.bootstrap:
            counts = statistics.resamples(len(forecast), self.bootstrap, self.seed)
            drawn = statistics.means(forecast[:, editable], counts).argmax(1)
            np.add.at(shares, editable[drawn], 1 / self.bootstrap)
        why = {"for want of a subject in their prompt": ~subject}
        why |= {"since the model is certain of their new answer": subject & certain}
        notes = [f"Left out {w}: {out.sum()} facts." for w, out in why.items() if out.any()]
        ranking = LayerRanking(
            layer=int(order[0]),
            selector=self.name,
            scores=tuple(mean.tolist()),
            order=tuple(order.tolist()),
            score_label="reach: first-order forecast of rewrite, rephrase and locality, mean, of 1",
            excluded=excluded(len(mean), order.tolist()),
            stability=tuple(shares.tolist()),
            requests=len(forecast),
            known=int(scores.says_new.sum()),
            dropped=scores.dropped,
            provenance=scores.provenance | {"options": asdict(self)},
        )
        return with_notes(ranking, [*notes, *without_part(removed)])

    def _forecast(
        self, scores: LayerScores
    ) -> tuple[Float[np.ndarray, "request layer"], Float[np.ndarray, "request layer"]]:
        """What is removed of the loss, and the mean of the parts that a request has."""
        at, loss = scores.at_subject, scores.loss_new[:, None]
        gain = np.minimum(at["bound"] * at["gradient"], loss)
        step = np.divide(gain, at["gradient"], out=np.zeros_like(gain), where=gain != 0)
        removed, step = (
            np.clip(at["written"] * gain / loss, 0, 1),
            (at["written"] * step)[..., None],
        )
        parts = (
            (at["rephrase"], np.clip(step * at["rephrase"], 0, 1)),
            (at["locality"], np.exp(-np.abs(step * at["locality"]))),
        )
        total, count = removed, np.ones((len(loss), 1))
        for slopes, served in parts:
            there = ~np.isnan(slopes).all(1, keepdims=True)  # a probe, whatever was found of it
            probes = there.sum(-1)
            total = total + np.where(there, served, 0).sum(-1) / np.maximum(probes, 1)
            count = count + (probes > 0)
        return removed, total / count
