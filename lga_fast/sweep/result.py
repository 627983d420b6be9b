"""The result of an exhaustive search: one value per sample and layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast.errors import ScoringError
from lga_fast.records import Dropped


@dataclass(frozen=True)
class Sweep:
    """What an edit of each sample at each layer did; studies and brute force reduce it.

    `acc[name]` holds one value per sample and layer, such as `rewrite` or `locality/neighborhood`;
    NaN where the sample has nothing to measure it with. The axis `layer` follows `layers`.
    """

    acc: dict[str, Float[np.ndarray, "sample layer"]]
    before: dict[str, Float[np.ndarray, " sample"]]  # of the unedited model
    case_ids: tuple[str, ...]
    layers: tuple[int, ...]
    dropped: tuple[Dropped, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def values(self, name: str) -> Float[np.ndarray, "sample layer"]:
        """`acc[name]`.

        Raises:
            ScoringError: no sample has such a value.
        """
        known = [n for n, values in self.acc.items() if not np.isnan(values).all()]
        if name not in known:
            raise ScoringError(
                f"sweep: no sample has a value {name!r}; they have: {', '.join(known)}"
            )
        return self.acc[name]

    def of(self, case_ids: Sequence[str]) -> Sweep:
        """The sweep of these samples only, in this order.

        Raises:
            ScoringError: the sweep lacks one of them.
        """
        place = {case_id: i for i, case_id in enumerate(self.case_ids)}
        if missing := [c for c in case_ids if c not in place]:
            raise ScoringError(f"sweep: {len(missing)} cases are not in it, first {missing[0]!r}")
        rows = [place[case_id] for case_id in case_ids]
        return replace(
            self,
            acc={name: values[rows] for name, values in self.acc.items()},
            before={name: values[rows] for name, values in self.before.items()},
            case_ids=tuple(case_ids),
        )

    def seconds(self) -> float:
        """Seconds of editing and measuring, all layers together."""
        runs = self.provenance["runs"]
        return sum(run["seconds_editing"] + run["seconds_measuring"] for run in runs)
