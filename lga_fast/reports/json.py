"""A ranking as a JSON file; `LayerRanking.from_json` reads it back."""

from __future__ import annotations

from pathlib import Path

from lga_fast.files import write_atomic
from lga_fast.records import LayerRanking


def write(ranking: LayerRanking, path: Path) -> None:
    """Write the whole ranking, provenance included."""
    write_atomic(path, ranking.to_json() + "\n")
