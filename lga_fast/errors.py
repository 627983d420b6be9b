"""Errors and warnings; each says what was expected, what came, where, and how to mend it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

_MAX_MESSAGE = 3000  # characters: some ten times the longest that is not of hostile input


class LgaFastWarning(UserWarning):
    """Every warning of lga_fast, so that no other library's is taken for one."""


def warn(message: str) -> None:
    """Give an `LgaFastWarning` that points at the first line outside this package."""
    package, level = __name__.partition(".")[0], 2
    frame = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, LgaFastWarning, stacklevel=level)


def shortened(text: str, limit: int = 300) -> str:
    """A text for an error message: its beginning and its end if it is long."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} ... {text[-half:]}"


def named_layers(layers: Sequence[int]) -> str:
    """Layers in a message: "layer 3", "layers 3, 4"."""
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


@dataclass(frozen=True)
class Dropped:
    """A request that a run could not use, and why."""

    case_id: str
    reason: str


class LgaFastError(Exception):
    """Base of all errors raised on purpose by lga_fast; a very long message is shortened."""

    def __init__(self, message: str = "", *more: object) -> None:
        """Names and values that come from files may be of any length."""
        super().__init__(shortened(message, _MAX_MESSAGE), *more)


class DataError(LgaFastError):
    """A record or file does not have the form it should have."""


class UnknownName(LgaFastError):
    """A name is not in its registry."""


class UnsupportedModel(LgaFastError):
    """The model has no family file, or does not look as its family says."""


class TapError(LgaFastError):
    """Activations or their gradients did not arrive as expected."""


class ScoringError(LgaFastError):
    """A selection cannot be made from these requests or scores."""


class NothingToScore(ScoringError):
    """No request is left to score; `dropped` says why."""

    def __init__(self, message: str, dropped: Sequence[Dropped] = ()) -> None:
        """Keep the requests that were given up."""
        super().__init__(message)
        self.dropped = tuple(dropped)


class RanksError(LgaFastError):
    """Several processes cannot work together on this."""


class LostRank(RanksError):
    """Another process ended before its share was done."""


class EditError(LgaFastError):
    """An edit cannot be made of these numbers, or does not belong to this model."""


class MetricError(LgaFastError):
    """A metric cannot be computed: something it needs is missing."""


class OptionError(EditError, ScoringError, MetricError):
    """An option has the wrong type or is out of its limits.

    Whoever catches what an editor, a selector or a metric raises catches this too.
    """


class NonFinite(EditError, ScoringError, MetricError):
    """A model's logits are NaN or infinite, whatever they were to serve."""


class NoLayer(EditError):
    """Nothing says which layer to edit."""


class BuildError(LgaFastError):
    """A native library is there but cannot be used."""
