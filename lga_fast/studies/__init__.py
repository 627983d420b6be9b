"""Studies: each member is one experiment of the paper, made of sweeps and rankings."""

from __future__ import annotations

from typing import Any, Protocol

from lga_fast import registry
from lga_fast.errors import DataError
from lga_fast.studies._report import Report
from lga_fast.studies._trials import Setting
from lga_fast.sweep.result import Sweep
from lga_fast.sweep.run import sweep

__all__ = ["Report", "Setting", "Study", "Sweep", "study", "sweep"]


class Study(Protocol):
    """What every member's `Study` does; its dataclass fields are its options."""

    def run(self, setting: Setting) -> Report:
        """Measure what is missing, and report."""
        ...


def study(name: str, setting: Setting, **options: Any) -> Report:
    """Run a study and write its report into the folder `setting.out`.

    Args:
        name: a member of `lga_fast.studies`.
        setting: what it runs on; a run that was stopped goes on.
        options: the fields of that member's `Study`.

    Raises:
        UnknownName: no such study, or it has no such option.
        DataError: an option is out of its limits, there are too few facts, or a file of
            `setting.out` is of another configuration.

    Example:
        >>> edits = {"atlas": lga_fast.load_edits("atlas")}
        >>> report = study("golden", Setting(Path("results"), edits, jobs=2))
        >>> print(report.markdown())
    """
    member = registry.configured(__name__, name, "Study", options)
    for option, value in vars(member).items():
        if isinstance(value, int) and value < 1:
            raise DataError(f"{name}: {option}={value}: expected 1 or more")
    report = member.run(setting)
    report.write(setting.out)
    return report
