"""Models that `load` knows by name: embedded in the package, or fetched into the user's cache."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lga_fast import atlas
from lga_fast.errors import LgaFastError
from lga_fast.files import cache_folder

FETCHED = {  # by which command, in a checkout
    "smollm2-135m": "make real",
    "gemma3-270m": "python -m tools.real.fetch gemma3-270m",
}
NAMES = ("atlas", *(f"atlas-{arch}" for arch in atlas.MODELS), *FETCHED)


class NamedModel(NamedTuple):
    """Where a model is, and what goes with it."""

    folder: Path
    dtype: str | None = None  # to load it in; None: the checkpoint's
    facts: str | None = None  # an embedded data set whose facts it knows


def find(name: str) -> NamedModel | None:
    """The model of this name; None: it is a Hub id or a path.

    Raises:
        UnknownName: "atlas-" something that there is not.
        LgaFastError: it is not in the cache; the message has the command that fetches it.
    """
    if name != "atlas" and Path(name).exists():
        return None
    if name == "atlas" or name.startswith("atlas-"):
        return NamedModel(atlas.folder(name), "float32", "atlas")
    if name not in FETCHED:
        return None
    folder = fetched(name)
    if not folder.is_dir():
        raise LgaFastError(
            f"{name!r}: expected the model in {folder}, there is none yet; `{FETCHED[name]}` in a "
            "checkout of lga_fast fetches it"
        )
    return NamedModel(folder)


def fetched(name: str) -> Path:
    """The folder in the cache for a model that is fetched."""
    return cache_folder("models") / name
