"""Tensors kept between blocks, or for a later process: in memory, or in files."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable
from zipfile import BadZipFile, ZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lga_fast import files
from lga_fast.errors import DataError, shortened

# The folder may hold files that are not ours.
_NAME = r"(entering|gradient)-\d+"
_KEY = "tensor"
_CPU = torch.device("cpu")


@runtime_checkable
class TensorStore(Protocol):
    """Sets of tensors by name; a set is stored whole or not at all."""

    def put(self, name: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Store a set; its tensors may be computed one by one while it is written."""
        ...

    def get(self, name: str) -> Mapping[str, Tensor]:
        """A stored set; its tensors may be read lazily."""
        ...

    def drop(self, name: str) -> None:
        """Delete a set if it exists."""
        ...

    def names(self) -> list[str]:
        """Names of the stored sets."""
        ...


class MemoryStore:
    """Sets in memory.

    Args:
        device: where sets are kept; None: each tensor stays on its own.
    """

    def __init__(self, device: torch.device | None = _CPU) -> None:
        self._device = device
        self._sets: dict[str, Mapping[str, Tensor]] = {}

    def put(self, name: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """See `TensorStore`."""
        self._sets[name] = {key: tensor.to(device=self._device) for key, tensor in tensors}

    def get(self, name: str) -> Mapping[str, Tensor]:
        """See `TensorStore`."""
        return self._sets[name]

    def drop(self, name: str) -> None:
        """See `TensorStore`."""
        self._sets.pop(name, None)

    def names(self) -> list[str]:
        """See `TensorStore`."""
        return list(self._sets)


class DiskStore:
    """Sets in files of a folder, each written whole or not at all, and tensor by tensor."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """See `TensorStore`."""
        with files.replacing(self.file(name)) as beside, ZipFile(beside, "w") as archive:
            for key, tensor in tensors:
                archive.writestr(key, save({_KEY: tensor.cpu().contiguous()}))

    def get(self, name: str) -> Mapping[str, Tensor]:
        """See `TensorStore`."""
        return _Archive(self.file(name))

    def drop(self, name: str) -> None:
        """See `TensorStore`."""
        self.file(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """See `TensorStore`."""
        archives = self._folder.glob("*.zip")
        return [file.stem for file in archives if re.fullmatch(_NAME, file.stem)]

    def file(self, name: str) -> Path:
        """The file of a set, whether it exists or not."""
        return self._folder / f"{name}.zip"


class _Archive(Mapping[str, Tensor]):
    """A file's tensors, each read on access, and aligned like any other tensor.

    Raises:
        DataError: the file is damaged, on opening or on access.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        with self._whole():
            self._archive = ZipFile(file)

    def __getitem__(self, key: str) -> Tensor:
        with self._whole():
            return load(self._archive.read(key))[_KEY].clone()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        try:
            yield
        except (BadZipFile, SafetensorError, zlib.error, OSError, EOFError, KeyError) as error:
            raise self._damaged(error) from error
        except (RuntimeError, NotImplementedError, ValueError) as error:  # flags and sizes of a zip
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DataError:
        return DataError(
            f"{self._file}: expected tensors that a run kept, got a damaged file "
            f"({type(error).__name__}: {shortened(str(error))}). Remove the folder to start again."
        )

    def __iter__(self):
        return iter(self._archive.namelist())

    def __len__(self) -> int:
        return len(self._archive.namelist())
