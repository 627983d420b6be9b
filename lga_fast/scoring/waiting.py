"""Tensors that wait between the two sweeps of a streamed pass: in memory, or in files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lga_fast import files

_NAME = r"(entering|gradient)-\d+"  # a folder may hold files of others too


@runtime_checkable
class Waiting(Protocol):
    """Sets of tensors by name; a set is there as a whole or not at all."""

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep a set."""
        ...

    def get(self, name: str) -> Mapping[str, Tensor]:
        """A set that was kept; its tensors may be read when they are asked for."""
        ...

    def drop(self, name: str) -> None:
        """Forget a set, if it is there."""
        ...

    def names(self) -> list[str]:
        """Sets that are there."""
        ...


class InMemory:
    """Sets in CPU memory."""

    def __init__(self) -> None:
        self._sets: dict[str, Mapping[str, Tensor]] = {}

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """See `Waiting`."""
        self._sets[name] = {key: tensor.cpu() for key, tensor in tensors.items()}

    def get(self, name: str) -> Mapping[str, Tensor]:
        """See `Waiting`."""
        return self._sets[name]

    def drop(self, name: str) -> None:
        """See `Waiting`."""
        self._sets.pop(name, None)

    def names(self) -> list[str]:
        """See `Waiting`."""
        return list(self._sets)


class InFolder:
    """Sets in a folder's safetensors files, each written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """See `Waiting`."""
        with files.replacing(self._file(name)) as beside:
            save_file({key: tensor.cpu().contiguous() for key, tensor in tensors.items()}, beside)

    def get(self, name: str) -> Mapping[str, Tensor]:
        """See `Waiting`."""
        return _Mapped(self._file(name))

    def drop(self, name: str) -> None:
        """See `Waiting`."""
        self._file(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """See `Waiting`."""
        found = self._folder.glob("*.safetensors")
        return [file.stem for file in found if re.fullmatch(_NAME, file.stem)]

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"


class _Mapped(Mapping[str, Tensor]):
    """A file's tensors, each read when it is asked for, and aligned as any other tensor."""

    def __init__(self, file: Path) -> None:
        self._handle = safe_open(file, framework="pt")

    def __getitem__(self, key: str) -> Tensor:
        return self._handle.get_tensor(key).clone()

    def __iter__(self):
        return iter(self._handle.keys())

    def __len__(self) -> int:
        return len(self._handle.keys())
