"""Which files a checkpoint has, and what is in them."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from lga_fast.errors import LgaFastError, shortened
from lga_fast.parsing import parse_json

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"


def find_files(source: str) -> list[str]:
    """The safetensors files of a folder or a Hub id, downloaded if necessary.

    Raises:
        LgaFastError: there are none.
    """
    from transformers.utils.hub import cached_file, get_checkpoint_shard_files

    for name in (ONE, INDEX):
        path = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
        if path and name == ONE:
            return [path]
        if path:
            check_index(Path(path).parent)
            return list(get_checkpoint_shard_files(source, path)[0] or [])
    raise LgaFastError(
        f"{source}: expected its weights in {ONE}, or in files that {INDEX} names, there is "
        "neither. Save the model with save_pretrained."
    )


def check_index(folder: str | Path) -> None:
    """Refuse an index of safetensors files that is damaged, or leads out of its folder.

    Raises:
        LgaFastError: so it is; no fault if there is no such file.
    """
    if not (file := Path(folder) / INDEX).is_file():
        return
    try:
        index = parse_json(file.read_text(encoding="utf-8"))
        named, about = index["weight_map"].values(), index["metadata"]
        wrong = [name for name in named if not _is_inside(name)]
        problem = f"the file {reprlib.repr(wrong[0])}" if wrong else ""
        if not (named and isinstance(about, dict)):
            problem = "no tensors, or no object of metadata"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {shortened(str(error))}"
    if problem:
        raise LgaFastError(
            f"{file}: expected an object with metadata and a weight_map, from tensors to files in "
            f"this folder, got {problem}. Fetch or save the checkpoint again."
        )


def _is_inside(name: Any) -> bool:
    return isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts


def home_of(source: str) -> Path:
    """The folder of a checkpoint's config; its files lie there or below it."""
    from transformers.utils.hub import cached_file

    return Path(str(cached_file(source, "config.json"))).parent


def refuse_misfit(
    source: str | Path,
    missing: Collection[str],
    mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]],
    unexpected: Collection[str],
    errors: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Refuse a checkpoint that transformers would complete with random numbers.

    All names are those of transformers' loading info; unexpected tensors alone are no fault.

    Raises:
        LgaFastError: a tensor is missing, or has another shape.
    """
    wrong = [f"{name} (missing)" for name in sorted(missing)]
    wrong += [f"{n} {tuple(got)} for {tuple(want)}" for n, got, want in sorted(mismatched)]
    wrong += [f"{name} ({error.strip().splitlines()[-1]})" for name, error in errors.items()]
    if wrong:
        others = (
            f" It has {len(unexpected)} others, such as {min(unexpected)}." if unexpected else ""
        )
        raise LgaFastError(
            f"{source}: expected every tensor that config.json describes, {len(wrong)} missing or "
            f"of another shape: {'; '.join(wrong[:3])}.{others} Fetch the checkpoint again if it "
            "is incomplete, else load it with its own config.json."
        )


def tensors_of(file: str) -> dict[str, Tensor]:
    """A file's tensors by name, on `meta`.

    Raises:
        LgaFastError: it is truncated, or not a safetensors file.
    """
    from transformers.modeling_utils import load_state_dict

    try:
        return load_state_dict(file, map_location="meta")
    except SafetensorError as error:
        raise LgaFastError(
            f"{file}: expected a whole safetensors file ({error}); fetch or save it again"
        ) from None


def stored_dtype(files: Sequence[str]) -> torch.dtype:
    """The dtype of a checkpoint's first floating-point tensor, which transformers goes by."""
    tensors = tensors_of(files[0]).values()
    return next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)


def weight_bytes(files: Sequence[str], dtype: torch.dtype | None) -> int:
    """Bytes of all tensors in memory, in this dtype or as they are stored."""
    tensors = [t for file in files for t in tensors_of(file).values()]
    return sum(t.numel() * (dtype or t.dtype).itemsize for t in tensors)
