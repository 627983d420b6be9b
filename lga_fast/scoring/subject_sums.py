"""What a change of the edited matrix's output at the subject would do, to first order."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast import ops
from lga_fast.models import EditableModel, Tap
from lga_fast.models.tensor_utils import to_device, wide
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
        self.model, self.pairs, self.scale = model, pairs, scale
        count, layers, slots = len(pairs), model.layers, sum(map(len, SLOTS.values()))
        # of the new answers' gradients of the output at the subject
        self.norms = torch.full(
            (count, layers), torch.nan, dtype=torch.float64, device=model.device
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

    def of_batch(self, layout: Layout, batch: list[int]) -> SubjectsOfBatch:
        """What adds a batch's taps."""
        return SubjectsOfBatch(self, layout, batch)

    def results(self) -> dict[str, np.ndarray]:
        """What is there in the end; see `LayerScores`."""
        slopes, losses = self.slopes.cpu().numpy(), self.probe_losses.numpy()[:, None]
        rephrase, locality = (slice(slots.start, slots.stop) for slots in SLOTS.values())
        return {
            "gradient": self.norms.cpu().numpy(),
            "rephrase": slopes[..., rephrase] / losses[..., rephrase],
            "locality": slopes[..., locality],
        }


class SubjectsOfBatch:
    """Adds what a batch's taps give at the subjects' last tokens.

    These are at the same place in both answers' rows.
    """

    def __init__(self, sums: SubjectSums, layout: Layout, batch: list[int]) -> None:
        self._sums, self._layout = sums, layout
        subjects = [sums.pairs[i].subject for i in batch]
        places = layout.new[:, 0] + torch.tensor([subject or 0 for subject in subjects])
        known = torch.tensor([subject is not None for subject in subjects])
        device = sums.norms.device
        self._at = to_device(places[known], device)
        self._where = to_device(torch.tensor(batch)[known], device)
        pair, slot = layout.probe_of.T
        self._rows = torch.stack([places[pair], torch.ones_like(pair)], 1)
        self._place = to_device(torch.tensor(batch)[pair], device)
        self._slot = to_device(slot, device)

    def add(self, tap: Tap) -> None:
        """Add a norm, and the slopes of the probes' losses."""
        sums, at = self._sums, self._at.to(tap.a.device)
        if tap.routing or not len(at):
            return
        norms = wide(tap.d[at] / sums.scale).double().norm(dim=1)
        sums.norms[self._where, tap.layer] = norms.to(sums.norms)
        probes = self._layout.probes
        if not len(probes):
            return
        dots = ops.grad_dot(tap.a, tap.d, self._rows, tap.a, tap.d, probes).to(sums.slopes)
        # A change δ at the subject adds δkᵀ/‖k‖² to the matrix. Its inner product with the weight's
        # gradient is linear in δ, which is a step against the gradient g there.
        unit = sums.norms[self._place, tap.layer] / dots[:, 1].where(dots[:, 1] != 0, 1)
        sums.slopes[self._place, tap.layer, self._slot] = dots[:, 0] * unit
