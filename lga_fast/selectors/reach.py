"""Reach: how much of the loss an edit could remove at each layer, to first order."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Float

from lga_fast import editors, registry
from lga_fast.errors import ScoringError
from lga_fast.layer_scores import LayerScores
from lga_fast.models import EditableModel
from lga_fast.options import option
from lga_fast.records import LayerRanking
from lga_fast.scoring.options import ScoringOptions
from lga_fast.selectors import _averaged
from lga_fast.selectors._editing_options import EditingOptions
from lga_fast.selectors._gradient_selector import GradientSelector, zero_gradients
from lga_fast.selectors._selector import (
    Resampling,
    excluded,
    refuse_equal,
    to_check,
    with_notes,
    without_part,
)
from lga_fast.sweep import statistics


@dataclass(frozen=True)
class Selector(Resampling, EditingOptions, GradientSelector):
    """The layer where an edit serves best, as far as a first-order forecast tells.

    A rank-one edit moves the edited matrix's output h at the subject's last token by at most
    `clamp` times its norm. To first order that lowers the new answer's loss by at most
    clamp·‖h‖·‖g‖, where g is the loss's gradient there, and never by more than the loss itself: a
    step of length α = min(clamp·‖h‖, loss / ‖g‖). The edit is (-α g/‖g‖) kᵀ/‖k‖², k the key there,
    so that what it does to any other answer is α times an inner product of two gradients. The score
    is the mean of what a fact has of three parts: the share of the loss that is removed after its
    prompt and after its paraphrases, and exp(-|change|) of unrelated answers' log-probability. It
    needs no old answer, and does not change where weights before the matrix are scaled up and the
    matrix down, as inner products of whole weights' gradients do. Editors that write a part of a
    change only, by the layer's second moment, may serve best elsewhere; a note says so.
    """

    clamp: float | None = option(
        None, "Largest change in units of the output's norm; default: the editor's.", above=0
    )

    def bound(self, model: EditableModel) -> Selector:
        """With the clamp that the editor has on this model, at whichever layer."""
        if self.clamp is not None:
            return self
        layer = min(model.editable_layers, default=0)  # any that has a matrix of its own
        editor, _, _ = editors.resolve(model, self.editor, layer, self.preset, self.config, {})
        return replace(self, clamp=editor.clamp)

    def pass_options(self) -> ScoringOptions:
        """What happens at the subject, for new answers only."""
        return replace(super().pass_options(), at_subject=True)

    def aggregate(self, scores: LayerScores) -> LayerRanking:
        """The ranking that these scores give.

        Layers that cannot be edited have the score 0 and are excluded. Requests whose subject is
        not in their prompt, and those of which nothing is left to reach, are left out and noted.

        Raises:
            ScoringError: no request is left, a score is not finite, or all are zero.
        """
        assert self.clamp is not None  # `bound` has set it
        output = scores.at_subject["output"]
        subject, certain = ~np.isnan(output).all(1), scores.loss_new == 0
        use = subject & ~certain
        if not use.any():
            raise ScoringError(
                f"reach: none of {len(use)} requests has its subject in its prompt and a new "
                "answer that the model does not give with certainty"
            )
        fixed = np.isnan(output[use]).all(0)  # layers that cannot be edited
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
        if damping := registry.member("lga_fast.editors", self.editor).Editor.damping:
            doubt = f"{self.editor} writes a part of a change ({damping}), which is not forecast"
            notes.append(to_check([doubt], len(mean), len(forecast), self.editor))
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
        gain = np.minimum(self.clamp * at["output"] * at["gradient"], loss)
        step = np.divide(gain, at["gradient"], out=np.zeros_like(gain), where=gain != 0)[..., None]
        removed = gain / loss
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
