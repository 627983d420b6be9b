"""Reading one safetensors file by offsets.

A tensor is read at once, into memory of its own: pages of a mapped file would be read in the middle
of a product, where no other thread can do it beforehand. And it comes to lie as it would in the
mapped file, modulo 64 bytes: a matrix product on a CPU may round in another way where its operands
are aligned in another way, and resident weights are what was mapped.
"""

from __future__ import annotations

import json
import os
import weakref
from pathlib import Path

import torch
from torch import Tensor

_LINE = 64  # bytes of a cache line, and torch's own alignment


class SafetensorsReader:
    """Where the tensors of a safetensors file lie, and their bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)
        length = int.from_bytes(self._file.read(8), "little")
        header = json.loads(self._file.read(length))
        self.begin = {
            name: 8 + length + entry["data_offsets"][0]
            for name, entry in header.items()
            if name != "__metadata__"
        }

    def read(self, name: str, dtype: torch.dtype, first: int, count: int) -> Tensor:
        """So many elements of a tensor from the `first` on, in the dtype that it is stored in."""
        offset = self.begin[name] + first * dtype.itemsize
        size = count * dtype.itemsize
        storage = torch.UntypedStorage(size + _LINE)
        shift = (offset - storage.data_ptr()) % _LINE
        # A slice, and not an offset in the storage, which would count whole elements: some writers
        # did not pad the header, so that tensors begin anywhere.
        within = storage[shift : shift + size]
        view, done = torch.empty(0, dtype=torch.uint8).set_(within).numpy().data, 0
        while done < size:
            got = os.preadv(self._file.fileno(), [view[done:]], offset + done)
            if not got:
                raise OSError(f"{self._file.name}: ends {size - done} bytes too early in {name}")
            done += got
        return torch.empty(0, dtype=dtype).set_(within)
