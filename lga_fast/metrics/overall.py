"""Overall: one number from the other metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lga_fast.errors import MetricError
from lga_fast.metrics import _probes
from lga_fast.metrics._cases import Values
from lga_fast.options import Options, option


@dataclass(frozen=True)
class Metric(Options):
    """Mean of the other metrics' headline values for a request; those it lacks are left out.

    Where some requests lack probes, its mean over requests therefore differs from the mean of the
    columns' means: the tables of arXiv 2602.20207 fit this rule.
    """

    exclude: tuple[str, ...] = option((), "Values that do not count, e.g. fluency.")

    unit: ClassVar[str] = "mean of the other metrics"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("overall",)

    def combine(self, values: Mapping[str, float | None]) -> Values:
        """`overall` of the other metrics' headline values.

        Raises:
            MetricError: `exclude` names none of them.
        """
        if unknown := set(self.exclude) - set(values):
            raise MetricError(
                f"overall: exclude={', '.join(sorted(unknown))}: expected values that are "
                f"measured: {', '.join(values) or 'none'}"
            )
        counted = [v for name, v in values.items() if name not in self.exclude and v is not None]
        return {"overall": _probes.mean(counted)}
