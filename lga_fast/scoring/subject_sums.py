"""What a change of the edited matrix's output at the subject would do, to first order."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast import ops
from lga_fast.models import EditableModel, Tap
from lga_fast.models.tensor_utils import wide
from lga_fast.scoring.batch_layout import Layout
from lga_fast.scoring.pairs import SLOTS, Pair


class SubjectSums:
    """What a scoring pass finds at the subjects, filled batch by batch.

    Args:
        model: that is scored.
        pairs: of the pass.
        scale: of the losses whose gradients arrive.
    """

    def __init__(self, model: EditableModel, pairs: list[Pair], scale: float) -> None:
        self._model, self._pairs, self._scale = model, pairs, scale
        count, layers, slots = len(pairs), model.layers, sum(map(len, SLOTS.values()))
        # axis 0: norms of the output at the subject and of its new gradient
        self.norms = torch.full(
            (2, count, layers), torch.nan, dtype=torch.float64, device=model.device
        )
        # by how much the probes' losses fall per unit of the output's change, and these losses
        self.slopes = self.norms.new_full((count, layers, slots), torch.nan)
        self.probe_losses = torch.full((count, slots), torch.nan, dtype=torch.float64)

    def tensors(self) -> dict[str, Tensor]:
        """What it fills, by name."""
        names = ("norms", "slopes", "probe_losses")
        return {f"at_subject.{name}": getattr(self, name) for name in names}

    def add_losses(self, losses: Float[Tensor, " probe"], layout: Layout, batch: list[int]) -> None:
        """Add the losses of a batch's probes."""
        pair, slot = layout.probe_of.T
        self.probe_losses[torch.tensor(batch)[pair], slot] = losses

    def add(self, tap: Tap, layout: Layout, batch: list[int]) -> None:
        """Add norms at the subjects' last tokens, at the same place in both answers' rows."""
        known = [k for k, pair in enumerate(batch) if self._pairs[pair].subject is not None]
        if tap.routing or not known:
            return
        places = layout.new[:, 0] + torch.tensor([self._pairs[i].subject or 0 for i in batch])
        at = places[known].to(tap.a.device)
        with torch.no_grad():  # `forward`, because a call would run the taps' hooks
            output = self._model.matrix(tap.layer, tap.matrix).forward(tap.a[at])
        where = torch.tensor([batch[k] for k in known], device=self._model.device)
        for row, values in enumerate((output, tap.d[at] / self._scale)):
            norms = wide(values).double().norm(dim=1)
            self.norms[row, where, tap.layer] = norms.to(self.norms)
        if not len(layout.probes):
            return
        pair, slot = layout.probe_of.T
        rows = torch.stack([places[pair], torch.ones_like(pair)], 1)
        dots = ops.grad_dot(tap.a, tap.d, rows, tap.a, tap.d, layout.probes).to(self.slopes)
        place = torch.tensor(batch)[pair].to(self.slopes.device)
        # A change δ at the subject adds δkᵀ/‖k‖² to the matrix. Its inner product with the weight's
        # gradient is linear in δ, which is a step against the gradient g there.
        unit = self.norms[1, place, tap.layer] / dots[:, 1].where(dots[:, 1] != 0, 1)
        self.slopes[place, tap.layer, slot.to(place.device)] = dots[:, 0] * unit

    def results(self) -> dict[str, np.ndarray]:
        """What is there in the end; see `LayerScores`."""
        output, gradient = self.norms.cpu().numpy()
        slopes, losses = self.slopes.cpu().numpy(), self.probe_losses.numpy()[:, None]
        rephrase, locality = (slice(slots.start, slots.stop) for slots in SLOTS.values())
        return {
            "output": output,
            "gradient": gradient,
            "rephrase": slopes[..., rephrase] / losses[..., rephrase],
            "locality": slopes[..., locality],
        }
