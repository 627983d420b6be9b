"""The file of a sweep (.npz): an array of values, and a description of the run as JSON text."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast import run_identity
from lga_fast.errors import DataError
from lga_fast.files import clear_abandoned, replacing, writing
from lga_fast.parsing import parse_json

KIND = "lga_fast.Sweep"
VERSION = 2


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
    path: Path, configuration: Mapping[str, Any]
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
        before = about["configuration"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
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
