"""Which tensors of two checkpoints differ, by how much, and putting those of one back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from lga_fast import progress
from lga_fast.errors import DataError, EditError
from lga_fast.files import replacing
from lga_fast.streaming.checkpoint_files import find_files, tensors_of
from lga_fast.streaming.safetensors_reader import SafetensorsReader
from lga_fast.weight_edit import LowRank

_SHARE = 0.99  # of the squares of a change, which its rank accounts for


@dataclass(frozen=True)
class TensorDiff:
    """How a tensor of one checkpoint differs from that of another."""

    name: str
    shape: tuple[int, ...]
    norm: float  # Frobenius norm of the change
    relative: float  # to the norm of the first
    rank: int | None  # that has 99% of the change's squares; None: it is no matrix


@dataclass(frozen=True)
class Difference:
    """How two checkpoints differ; `unlike` has what cannot be compared and why."""

    tensors: tuple[TensorDiff, ...]
    unlike: tuple[str, ...]
    same: int  # tensors that are equal


def compare(first: str | Path, second: str | Path) -> Difference:
    """Compare two checkpoints of safetensors files, folders or Hub ids, tensor by tensor.

    Raises:
        LgaFastError: one has no safetensors files, or a truncated one.
    """
    here, there = _files(first), _files(second)
    unlike = [f"{name}: only in {first}" for name in here if name not in there]
    unlike += [f"{name}: only in {second}" for name in there if name not in here]
    tensors, same = [], 0
    for name, old, new in _pairs(here, there):
        if old.shape != new.shape:
            unlike.append(f"{name}: {tuple(old.shape)} in {first}, {tuple(new.shape)} in {second}")
        elif torch.equal(old, new):
            same += 1
        else:
            tensors.append(_difference(name, old, new))
    return Difference(tuple(tensors), tuple(unlike), same)


def change_of(first: str | Path, second: str | Path, name: str, delta: LowRank) -> float:
    """How far a tensor's change is from an edit's: `‖B − (A + Δ)‖ / ‖B‖` in units of rounding.

    1 or less where `B` is `A + Δ` rounded to its dtype; more where something else was changed.
    """
    here, there = _files(first), _files(second)
    chosen = {name: here[name]}, {name: there[name]}
    ((_, old, new),) = _pairs(*chosen)
    product = delta.left.double() @ delta.right.double().T
    change = product if product.shape == old.shape else product.T
    off = (new.double() - old.double() - change).norm() / new.double().norm()
    return float(off) / torch.finfo(new.dtype).eps


def put_back(folder: Path, base: str | Path, names: Sequence[str]) -> None:
    """Write the values that these tensors have in `base` into the files of `folder`.

    Each file is replaced atomically, so that an interrupted run can be repeated.

    Raises:
        DataError: a tensor has another shape in `base`.
    """
    here, there = _files(folder), _files(base)
    by_file: dict[str, list[tuple[str, torch.dtype]]] = {}
    for name in names:
        mine, other = (tensors_of(files[name])[name] for files in (here, there))
        if mine.shape != other.shape:
            raise DataError(
                f"{folder}: {name}: expected {tuple(other.shape)} as in {base}, got "
                f"{tuple(mine.shape)}; it is no edit of that model"
            )
        by_file.setdefault(here[name], []).append((name, mine.dtype))
    for file, inside in by_file.items():
        offsets = SafetensorsReader(Path(file)).offsets
        with replacing(Path(file)) as beside:
            shutil.copyfile(file, beside)
            with beside.open("r+b") as out:
                for name, dtype in inside:
                    with safe_open(there[name], framework="pt") as stored:
                        tensor = stored.get_tensor(name).to(dtype)
                    out.seek(offsets[name])
                    out.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def stored_name(names: Sequence[str], parameter: str) -> str:
    """What a checkpoint calls a model's parameter: the same, or without the model's prefix.

    Raises:
        EditError: none of these names fits.
    """
    fitting = [n for n in names if n == parameter or parameter.endswith(f".{n}")]
    if not fitting:
        raise EditError(f"{parameter}: the checkpoint has no such tensor")
    return max(fitting, key=len)


def tensor_names(source: str | Path) -> list[str]:
    """Names of a checkpoint's tensors."""
    return list(_files(source))


def _files(source: str | Path) -> dict[str, str]:
    """The file of each tensor."""
    try:
        files = find_files(str(source))
    except (OSError, ValueError) as error:  # no folder, and no Hub id either
        raise DataError(f"{source}: expected a folder or a Hub id of a model: {error}") from None
    return {name: file for file in files for name in tensors_of(file)}


def _pairs(
    here: Mapping[str, str], there: Mapping[str, str]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    both = [name for name in here if name in there]
    with ExitStack() as stack, progress.bar("comparing tensors", len(both)) as advance:
        paths = {files[name] for files in (here, there) for name in both}
        opened = {p: stack.enter_context(safe_open(p, framework="pt")) for p in sorted(paths)}
        for name in both:
            yield name, *(opened[files[name]].get_tensor(name) for files in (here, there))
            advance(1)


def _difference(name: str, old: Tensor, new: Tensor) -> TensorDiff:
    change = new.double() - old.double()
    norm, rank = float(change.norm()), None
    if change.ndim == 2:
        flat = change if change.shape[0] <= change.shape[1] else change.T
        energies = torch.linalg.eigvalsh(flat @ flat.T).flip(0).clamp_min(0)
        rank = int((energies.cumsum(0) < _SHARE * energies.sum()).sum()) + 1
    size = float(old.double().norm())
    return TensorDiff(name, tuple(old.shape), norm, norm / size if size else float("inf"), rank)
