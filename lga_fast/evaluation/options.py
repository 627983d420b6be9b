"""How requests are edited and measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lga_fast.errors import OptionError
from lga_fast.options import Options, option

Mode = Literal["single", "sequential", "batch"]
EvalWhen = Literal["end", "after_each"]
METRICS = ("rewrite", "rephrase", "locality", "portability", "overall")  # need no download


@dataclass(frozen=True)
class EvaluationOptions(Options):
    """What decides an evaluation, besides model, requests and editor; see `evaluate`."""

    mode: Mode = option("single", "Requests edited alone, one after another, or together.")
    eval_when: EvalWhen = option("end", "When the edits of a sequence are measured.")
    metrics: tuple[str, ...] = option(METRICS, "Members of lga_fast.metrics.")
    chunk: int = option(32, "Requests edited and measured together, and written at once.", min=1)

    def __post_init__(self) -> None:
        """Check every field, and that the two modes go together."""
        super().__post_init__()
        if self.eval_when != "end" and self.mode != "sequential":
            raise OptionError(
                f"eval_when={self.eval_when!r} is for mode='sequential': in mode={self.mode!r} no "
                "request's edit follows another's"
            )
