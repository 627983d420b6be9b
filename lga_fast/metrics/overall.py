"""Overall: one number from the other metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from lga_fast.errors import MetricError
from lga_fast.metrics import _probes
from lga_fast.metrics._cases import Values


@dataclass(frozen=True)
class Metric:
    """Mean of what the other metrics found for a request; what they could not find is left out.

    Its mean over requests is thus no mean of the columns' means where some requests lack probes:
    the tables of arXiv 2602.20207 fit this rule.
    """

    exclude: tuple[str, ...] = field(
        default=(), metadata={"help": "Values that do not count, e.g. fluency."}
    )

    unit: ClassVar[str] = "mean of the other metrics"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("overall",)

    def combine(self, values: Mapping[str, float | None]) -> Values:
        """`overall` of the other metrics' headline values.

        Raises:
            MetricError: what is to be excluded is not among them.
        """
        if unknown := set(self.exclude) - set(values):
            raise MetricError(
                f"overall: exclude={', '.join(sorted(unknown))}: expected values that are "
                f"measured: {', '.join(values) or 'none'}"
            )
        found = [v for name, v in values.items() if name not in self.exclude and v is not None]
        return {"overall": _probes.mean(found)}
