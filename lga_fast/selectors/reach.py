"""Reach: how much of the loss an edit could remove at each layer, to first order."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Float

from lga_fast import editors
from lga_fast.errors import ScoringError
from lga_fast.layer_scores import LayerScores
from lga_fast.models import EditableModel
from lga_fast.options import option
from lga_fast.records import LayerRanking
from lga_fast.scoring.options import ScoringOptions
from lga_fast.selectors import _averaged
from lga_fast.selectors._editing_options import EditingOptions
from lga_fast.selectors._gradient_selector import GradientSelector, zero_gradients
from lga_fast.selectors._selector import Resampling, refuse_equal, with_notes, without_part
from lga_fast.sweep import statistics


@dataclass(frozen=True)
class Selector(Resampling, EditingOptions, GradientSelector):
    """The deepest layer at which an edit can remove about as much of the loss as at any.

    A rank-one edit moves the edited matrix's output h at the subject's last token by at most
    `clamp` times its norm. To first order that lowers the new answer's loss by at most
    clamp·‖h‖·‖g‖, where g is the loss's gradient there, and never by more than the loss itself. The
    reach of a layer is the share of the loss within both bounds, in the mean over facts. It needs
    no old answer, and does not change where weights before the matrix are scaled up and the matrix
    down, as inner products of weights' gradients do.
    """

    clamp: float | None = option(
        None, "Largest change in units of the output's norm; default: the editor's.", above=0
    )
    margin: float = option(
        0.05, "Largest share of the best layer's reach that the choice may lack.", min=0, max=1
    )

    def bound(self, model: EditableModel) -> Selector:
        """With the clamp that the editor has on this model, at whichever layer."""
        if self.clamp is not None:
            return self
        editor, _, _ = editors.resolve(model, self.editor, 0, self.preset, self.config, {})
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
        output, gradient = scores.at_subject["output"], scores.at_subject["gradient"]
        subject, certain = ~np.isnan(output).all(1), scores.loss_new == 0
        use = subject & ~certain
        if not use.any():
            raise ScoringError(
                f"reach: none of {len(use)} requests has its subject in its prompt and a new "
                "answer that the model does not give with certainty"
            )
        fixed = np.isnan(output[use]).all(0)  # layers that cannot be edited
        editable, loss = np.flatnonzero(~fixed), scores.loss_new[use, None]
        reach = np.minimum(self.clamp * output[use] * gradient[use], loss) / loss
        reach[:, fixed] = 0
        cases = [case for case, used in zip(scores.case_ids, use, strict=True) if used]
        _averaged.check_finite(self.name, reach, cases)
        mean = reach.mean(0)
        if not mean.any():  # a reach of 1 at every layer is an answer: the deepest
            refuse_equal(self.name, mean[editable].tolist(), zero_gradients(scores))
        order = editable[self._order(mean[editable])]
        shares = np.zeros(len(mean))
        if self.bootstrap:
            counts = statistics.resamples(len(reach), self.bootstrap, self.seed)
            drawn = [self._order(one)[0] for one in statistics.means(reach[:, editable], counts)]
            np.add.at(shares, editable[drawn], 1 / self.bootstrap)
        why = {"for want of a subject in their prompt": ~subject}
        why |= {"since the model is certain of their new answer": subject & certain}
        notes = [f"Left out {w}: {out.sum()} facts." for w, out in why.items() if out.any()]
        ranking = LayerRanking(
            layer=int(order[0]),
            selector=self.name,
            scores=tuple(mean.tolist()),
            order=tuple(order.tolist()),
            score_label="reach: share of the loss that an edit can remove, to first order",
            excluded=tuple(sorted(set(range(len(mean))) - set(order.tolist()))),
            stability=tuple(shares.tolist()),
            requests=len(reach),
            known=int(scores.says_new.sum()),
            dropped=scores.dropped,
            provenance=scores.provenance | {"options": asdict(self)},
        )
        return with_notes(ranking, [*notes, *without_part(reach)], "the deepest is taken")

    def _order(self, reach: Float[np.ndarray, " layer"]) -> list[int]:
        """Places within the margin of the largest, deepest first, then the others by size."""
        near = reach >= (1 - self.margin) * reach.max()
        rest = (i for i in np.argsort(-reach, kind="stable").tolist() if not near[i])
        return [*np.flatnonzero(near)[::-1].tolist(), *rest]
