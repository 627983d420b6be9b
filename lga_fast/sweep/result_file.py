"""The file of a sweep (.npz): an array of values, and a description of the run as JSON text."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast import run_identity
from lga_fast.errors import DataError
from lga_fast.files import clear_abandoned, replacing, writing
from lga_fast.parsing import of_type, parse_json

KIND = "lga_fast.Sweep"
VERSION = 2
_DAMAGED = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
_DAMAGED += (ValueError, KeyError, TypeError, AttributeError, IndexError)


def write(
    path: Path,
    acc: Float[np.ndarray, "name sample layer"],
    before: Float[np.ndarray, "name sample"],
    about: Mapping[str, Any],
) -> None:
    """Write the file atomically."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"kind": KIND, "version": VERSION, **about}, ensure_ascii=False)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, about=np.array(text), acc=acc, before=before)


def read(
    path: Path, configuration: Mapping[str, Any], samples: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Arrays and description of a sweep to resume; None if there is no file yet.

    Raises:
        DataError: the file holds something else, or a sweep of another configuration.
    """
    clear_abandoned(path)
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        about = parse_json(str(arrays.pop("about")))
        if (about["kind"], about["version"]) != (KIND, VERSION):
            raise ValueError(f"{about['kind']} of version {about['version']}")
        before = of_type(about["configuration"], dict, "configuration")
        if before == configuration:  # else what differs is said
            _check(arrays, about, samples, len(configuration["layers"]))
    except _DAMAGED as error:
        raise DataError(
            f"{path}: expected a file of {KIND}, version {VERSION}, got: {error}. Nothing was "
            "written; give another file."
        ) from None
    if differences := run_identity.differences(before, configuration):
        raise DataError(
            f"{path}: holds a sweep of another configuration: {differences}. Give another file, "
            "or remove this one."
        )
    return arrays, about


def _check(
    arrays: Mapping[str, np.ndarray], about: dict[str, Any], samples: int, depth: int
) -> None:
    """Refuse arrays and entries that do not fit each other.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: so it is.
    """
    names = of_type(about["names"], list, "names")
    for name, shape in (("acc", (len(names), samples, depth)), ("before", (len(names), samples))):
        array = arrays[name]
        fits = array.shape == shape if names else len(array) == 0
        if array.dtype.kind != "f" or not fits:
            raise ValueError(f"{name}: {array.dtype} of shape {array.shape}, expected {shape}")
    if not all(isinstance(name, str) for name in names):
        raise TypeError("names: expected texts")
    for run in of_type(about["runs"], list, "runs"):
        start, stop = run["requests"]
        if not (isinstance(start, int) and isinstance(stop, int) and 0 <= start < stop <= samples):
            raise ValueError(f"runs: requests {start} to {stop} of {samples}")
    for note, layers in about["notes"].items():
        if not all(isinstance(layer, int) for layer in of_type(layers, list, "notes")):
            raise TypeError(f"notes: expected layers, got {layers!r} of {note!r}")
