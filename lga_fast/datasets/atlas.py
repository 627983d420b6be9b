"""Edit requests of the embedded atlas, which ship with the package and need no path."""

from __future__ import annotations

from pathlib import Path

from lga_fast.atlas import REQUESTS
from lga_fast.datasets import jsonl
from lga_fast.datasets._forms import Form, load_edits_file
from lga_fast.datasets._report import LoadedEdits
from lga_fast.records import EditRequest

#: None of its own: the requests are in the form of `jsonl`, to which users' files are referred.
FORMS: tuple[Form[EditRequest], ...] = ()


def default_path() -> Path:
    """The file that ships with lga_fast."""
    return REQUESTS


def read(path: Path) -> LoadedEdits:
    """The atlas's requests; each has rephrase, locality and, where a hop is known, portability.

    Example:
        >>> edits = read(default_path())
        >>> sorted({probe.group for probe in edits[0].probes if probe.kind == "locality"})
        ['neighborhood', 'other_relation']
    """
    return load_edits_file(path, "atlas", jsonl.FORMS)
