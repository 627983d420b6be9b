"""What every study is: options and a report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from lga_fast import registry
from lga_fast.options import Options, option
from lga_fast.studies._report import Report
from lga_fast.studies._trials import Setting


@dataclass(frozen=True)
class Experiment(Options, ABC):
    """Base of every member's `Study`; dataclass fields are its options."""

    packages: ClassVar[tuple[str, ...]] = ("jinja2", "matplotlib")  # what it and its report need

    @property
    def name(self) -> str:
        """The member's name."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def run(self, setting: Setting) -> Report:
        """Measure what is missing, and report."""


@dataclass(frozen=True)
class SelectorExperiment(Experiment):
    """Base of those that compare selectors."""

    selectors: tuple[str, ...] = option(
        (),
        "Selector to compare; default: every one (runtime: and its variants).",
        member="lga_fast.selectors",
    )

    @property
    def compared(self) -> tuple[str, ...]:
        """Their names, each once."""
        return tuple(dict.fromkeys(self.selectors)) or tuple(registry.names("lga_fast.selectors"))
