"""A checkpoint's tensors, read one at a time from its safetensors files."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast.errors import UnsupportedModel
from lga_fast.streaming._merged_tensors import locations
from lga_fast.streaming.checkpoint_files import refuse_misfit, tensors_of
from lga_fast.streaming.safetensors_reader import SafetensorsReader


@dataclass
class _Group:
    """Stored tensors that become one tensor of the model, or several through a converter."""

    converter: Any = None
    keys: list[tuple[str, str | None]] = field(default_factory=list)  # and the converter's pattern


class Checkpoint:
    """Tensors of a checkpoint under the model's names and in its dtypes.

    transformers decides which stored tensors become which tensors of the model.

    Args:
        hf: the model on `meta`; its tensors get their final dtypes.
        files: safetensors files.

    Raises:
        LgaFastError: a tensor is missing or does not have the shape that the model expects.

    Warns:
        UserWarning: the files hold tensors that the model does not have.
    """

    def __init__(self, hf: Any, files: Sequence[str]) -> None:
        from transformers.conversion_mapping import get_model_conversion_mapping

        self.files = [Path(file) for file in files]
        # By thread: the next block is read by another one, and a lock might stay locked.
        self._bytes_read: defaultdict[int, int] = defaultdict(int)
        self._hf = hf
        self._stored: dict[str, Tensor] = {}  # on meta
        self._where: dict[str, SafetensorsReader] = {}
        for file in self.files:
            part = tensors_of(str(file))
            self._where |= dict.fromkeys(part, SafetensorsReader(file))
            self._stored |= part
        transforms = get_model_conversion_mapping(hf)
        info = self._fit(transforms)
        self._dtypes = {name: tensor.dtype for name, tensor in hf.state_dict().items()}
        self._split_from: dict[str, str] = {}  # the first tensor of a split one, by the others
        self._groups = self._grouped(transforms)
        missing = [name for name in info.missing_keys if self.source(name) is None]
        wrong = info.mismatched_keys, info.unexpected_keys, info.conversion_errors
        refuse_misfit(self.files[0].parent, missing, *wrong)

    def _fit(self, transforms: list[Any]) -> Any:
        """Load everything as transformers does, but on `meta`: no byte is read."""
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        how = LoadStateDictConfig(
            device_map={"": "meta"},
            dtype=self._hf.dtype,
            dtype_plan=self._hf._get_dtype_plan(self._hf.dtype),
            weight_mapping=transforms,
        )
        info, _ = convert_and_load_state_dict_in_model(self._hf, dict(self._stored), how)
        self._hf.tie_weights()  # the new tensors are not tied yet
        self._hf._adjust_missing_and_unexpected_keys(info)  # ignored on purpose
        if unknown := sorted(info.unexpected_keys):
            warnings.warn(
                f"{self.files[0].parent}: {len(unknown)} tensors are not of the model that "
                f"config.json describes, and are not read: {', '.join(unknown[:3])}",
                stacklevel=4,
            )
        return info

    def _grouped(self, transforms: list[Any]) -> dict[str, _Group]:
        from transformers.core_model_loading import (
            WeightConverter,
            WeightRenaming,
            dot_natural_key,
            rename_source_key,
        )

        renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
        converters = [t for t in transforms if isinstance(t, WeightConverter)]
        by_pattern = {p: converter for converter in converters for p in converter.source_patterns}
        known, prefix = self._hf.state_dict(), self._hf.base_model_prefix
        groups: dict[str, _Group] = {}
        for key in sorted(self._stored, key=dot_natural_key):
            name, pattern = rename_source_key(key, renamings, converters, prefix, known)
            if name not in known and key in known:
                name, pattern = rename_source_key(key, [], [], prefix, known)
            if name in known:
                converter = by_pattern[pattern] if pattern is not None else None
                groups.setdefault(name, _Group(converter)).keys.append((key, pattern))
                first, *others = converter.target_patterns if converter else [""]
                parts = (name.replace(first, other) for other in others)
                self._split_from |= {part: name for part in parts if part in known}
        return groups

    def _group(self, name: str) -> _Group:
        return self._groups[self._split_from.get(name, name)]

    def _firsts(self, names: Iterable[str]) -> Iterable[str]:
        """Of tensors that are split from one, only the first one's name."""
        return dict.fromkeys(self._split_from.get(name, name) for name in names)

    # -- contents ------------------------------------------------------------------------------
    def names(self, prefix: str) -> list[str]:
        """Names of the model's tensors; of those converted together, the first one's."""
        return [name for name in self._groups if name.startswith(prefix)]

    def source(self, name: str) -> str | None:
        """The name under which a tensor of the model can be read: its own or one it is tied to."""
        ties = self._hf.all_tied_weights_keys
        tied = [ties.get(name), *(target for target, source in ties.items() if source == name)]
        return next((n for n in (name, *tied) if n in self._groups or n in self._split_from), None)

    def stored_bytes(self, names: Iterable[str]) -> int:
        """Bytes of these tensors in the files."""
        keys = (key for name in self._firsts(names) for key, _ in self._groups[name].keys)
        return sum(self._stored[key].nbytes for key in keys)

    def loaded_bytes(self, names: Iterable[str]) -> int:
        """Bytes of these tensors in memory."""
        return sum(
            self._stored[key].numel() * self._dtypes[name].itemsize
            for name in self._firsts(names)
            for key, _ in self._groups[name].keys
        )

    def conversion_bytes(self, names: Iterable[str]) -> int:
        """Peak bytes beside these tensors while one of them is converted."""
        return max(map(self._conversion_bytes, self._firsts(names)), default=0)

    def _conversion_bytes(self, name: str) -> int:
        group, dtype = self._groups[name], self._dtypes[name]
        others = [key for key, _ in group.keys if self._stored[key].dtype != dtype]
        parts = self.loaded_bytes([name]) if group.converter is not None else 0
        return parts + max((self._stored[key].nbytes for key in others), default=0)

    def location(self, name: str) -> tuple[Path, str, torch.dtype] | None:
        """The file that holds a tensor of the model, its name there and dtype.

        None: it is converted from others, or tied to one.
        """
        group = self._groups.get(name)
        if group is None or group.converter is not None:
            return None
        key = group.keys[0][0]
        return self._where[key].path, key, self._stored[key].dtype

    def stored_in(self, file: Path) -> dict[str, torch.dtype]:
        """Names in a file, and the model's dtypes of their tensors."""
        groups = self._groups.items()
        dtypes = {key: self._dtypes[name] for name, group in groups for key, _ in group.keys}
        inside = (key for key, where in self._where.items() if where.path == file)
        return {key: dtypes.get(key, self._stored[key].dtype) for key in inside}

    @property
    def bytes_read(self) -> int:
        """So far, from all files."""
        return sum([*self._bytes_read.values()])

    # -- reading -------------------------------------------------------------------------------
    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """These tensors, on the CPU, in memory of their own."""
        tensors: dict[str, Tensor] = {}
        for name in self._firsts(names):
            group, dtype = self._groups[name], self._dtypes[name]
            if group.converter is None:
                tensors[name] = self._tensor(group.keys[0][0], dtype)
                continue
            converter = deepcopy(group.converter)
            for key, pattern in group.keys:
                converter.add_tensor(name, key, pattern, partial(self._tensor, key, dtype))
            converted = converter.convert(name, model=self._hf, config=self._hf.config)
            tensors |= {n: t[0] if isinstance(t, list) else t for n, t in converted.items()}
        return tensors

    def rows(self, name: str, numbers: Collection[int]) -> Float[Tensor, "row d_model"]:
        """These rows of a matrix; no others are read.

        Raises:
            UnsupportedModel: the matrix is converted from several stored tensors.
        """
        group = self._group(name)
        if group.converter is not None:
            raise UnsupportedModel(
                f"{name} is converted from several tensors of the checkpoint, so that its rows "
                "cannot be read alone; load the model with weights='resident'"
            )
        key = group.keys[0][0]
        width = self._stored[key].shape[1]
        rows = [self._elements(key, width * i, width) for i in numbers]
        return torch.stack(rows).to(self._dtypes[name])

    def sample(self, name: str, count: int) -> Float[Tensor, " value"]:
        """So many values of a tensor, evenly spread over it."""
        where = self._locations(name, count)
        if where is None:  # its order is only known once it is converted
            flat = self.read([name])[name].reshape(-1)
            return flat[list(_spread(len(flat), count))]
        return torch.cat([self._elements(key, i, 1) for key, i in where]).to(self._dtypes[name])

    def sample_bytes(self, name: str, count: int) -> int:
        """Bytes that `sample` reads."""
        where = self._locations(name, count)
        if where is None:
            return self.stored_bytes([name])
        return sum(self._stored[key].itemsize for key, _ in where)

    def _locations(self, name: str, count: int) -> list[tuple[str, int]] | None:
        """Where so many values of a tensor are stored; None: it is converted in an unknown way."""
        group = self._group(name)
        numbers = _spread(sum(self._stored[key].numel() for key, _ in group.keys), count)
        if group.converter is None:
            return [(group.keys[0][0], i) for i in numbers]
        return locations(group.converter, group.keys, self._stored, numbers)

    def _tensor(self, key: str, dtype: torch.dtype) -> Tensor:
        stored = self._stored[key]
        return self._elements(key, 0, stored.numel()).view(stored.shape).to(dtype)

    def _elements(self, key: str, first: int, count: int) -> Tensor:
        dtype = self._stored[key].dtype
        self._bytes_read[get_ident()] += count * dtype.itemsize
        return self._where[key].read(key, dtype, first, count)


def _spread(size: int, count: int) -> range:
    return range(0, size, max(1, size // count))[:count]
