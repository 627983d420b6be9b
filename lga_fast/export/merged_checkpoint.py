"""A model with an edit in its weights, as a folder of its own.

Of a checkpoint in safetensors, files without an edited tensor are copied, and of the others the
edited tensors' bytes are written over. Where the model runs in another dtype than it is stored in,
every file is written again in that one.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lga_fast import progress
from lga_fast.errors import EditError, LgaFastError
from lga_fast.files import clear_abandoned, unfinished
from lga_fast.streaming.checkpoint import Checkpoint
from lga_fast.streaming.checkpoint_files import INDEX, find_files, stored_dtype
from lga_fast.streaming.meta_model import meta_model
from lga_fast.streaming.safetensors_reader import SafetensorsReader

if TYPE_CHECKING:
    from lga_fast.models import EditableModel
    from lga_fast.weight_edit import WeightEdit

_CONFIGS = ("config.json", "generation_config.json", INDEX)
# What else holds for the edited model too; the tokenizer writes its own files.
_BESIDE = ("*processor_config.json", "editing.json", "LICEN[CS]E*", "NOTICE*")


class _New(NamedTuple):
    """What a tensor of the checkpoint shall become."""

    dtype: torch.dtype
    read: Callable[[], Tensor]


class _Changed(NamedTuple):
    """What differs from the checkpoint."""

    by_file: dict[Path, dict[str, _New]]  # by name in the file
    as_stored: bool  # all of it in the dtypes that it is stored in


def write_merged(edit: WeightEdit, folder: Path, model: EditableModel) -> None:
    """Write edited model and tokenizer into `folder`; see `WeightEdit.to_model`."""
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EditError(
            f"{folder}: expected a new or an empty folder for the edited model, got "
            f"{'one that holds something' if folder.is_dir() else 'a file'}; give another"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_abandoned(folder)
    beside = unfinished(folder)
    try:
        with nullcontext() if model.carries(edit) else model.edited(edit):
            _write(model, beside)
        model.tokenizer.save_pretrained(beside)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write(model: EditableModel, folder: Path) -> None:
    shards = model.shards or _shards_of(model)
    changed = None if shards is None else _changed(model, shards)
    if shards is None or changed is None:
        if model.streamed:
            raise LgaFastError(
                f"{model.name!r}: an edited tensor is put together from several of the checkpoint, "
                "which cannot be taken apart again; load the model with weights='resident'"
            )
        model.hf.save_pretrained(folder)
        if model.source is not None:
            _bring(Path(model.source), folder, _BESIDE)
        return
    source, index = shards.files[0].parent, folder / INDEX
    folder.mkdir()
    _bring(source, folder, (*_CONFIGS, *_BESIDE))
    size = 0
    with progress.bar("writing files", len(shards.files)) as advance:
        for file in shards.files:
            new = changed.by_file.get(file, {})
            if changed.as_stored:
                _copy(file, folder / file.name, new)
            else:
                size += _convert(file, folder / file.name, new, shards.stored_in(file))
            advance(1)
    if changed.as_stored:
        return
    model.hf.config.save_pretrained(folder)  # which says the dtype
    if index.is_file():
        told = json.loads(index.read_text(encoding="utf-8"))
        told.setdefault("metadata", {})["total_size"] = size
        index.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _bring(source: Path, folder: Path, patterns: Sequence[str]) -> None:
    for file in (found for pattern in patterns for found in source.glob(pattern)):
        if file.is_file():
            shutil.copyfile(file, folder / file.name)


def _shards_of(model: EditableModel) -> Checkpoint | None:
    """The checkpoint that a model was loaded from; None: it is not one of safetensors."""
    if model.source is None:
        return None
    try:
        files = find_files(model.source)
        hf = meta_model(model.source, model.dtype, stored_dtype(files))
        with warnings.catch_warnings(action="ignore"):  # loading the model gave them
            shards = Checkpoint(hf, files)
    except (LgaFastError, OSError):
        return None
    told, now = ({n: t.shape for n, t in x.state_dict().items()} for x in (hf, model.hf))
    return shards if told == now and all(map(shards.source, told)) else None


def _changed(model: EditableModel, shards: Checkpoint) -> _Changed | None:
    """What differs from the checkpoint; None: it does not hold all of that as it is."""
    changed, as_stored = dict[Path, dict[str, _New]](), True
    for name, new in _differing(model, shards).items():
        place = shards.place(name)
        if place is None:
            return None
        file, key, dtype = place
        changed.setdefault(file, {})[key] = new
        as_stored = as_stored and dtype == new.dtype
    return _Changed(changed, as_stored)


def _differing(model: EditableModel, shards: Checkpoint) -> dict[str, _New]:
    found: dict[str, _New] = {}
    if model.streamed:
        for place in model.matrices():
            if model.weight_name(*place) in model.edited_names():
                weight = model.matrix(*place).weight
                found[model.weight_name(*place)] = _New(weight.dtype, partial(_read, model, place))
        return found
    state, names = model.hf.state_dict(), shards.names("")
    with progress.bar("comparing tensors", len(names)) as advance:
        for name in names:  # of a model in memory anything may have changed
            for part, stored in shards.read([name]).items():
                if not torch.equal(_bytes(stored), _bytes(state[part].cpu())):
                    found[part] = _New(state[part].dtype, state[part].cpu)
            advance(1)
    return found


def _read(model: EditableModel, place: tuple[int, str]) -> Tensor:
    with model.loaded(place[0]):
        return model.matrix(*place).weight.detach().cpu()


def _copy(file: Path, into: Path, changed: Mapping[str, _New]) -> None:
    shutil.copyfile(file, into)
    if not changed:
        return
    begin = SafetensorsReader(into).begin
    with into.open("r+b") as out:
        for key, new in changed.items():
            out.seek(begin[key])
            out.write(_bytes(new.read()).numpy().data)


def _convert(
    file: Path, into: Path, changed: Mapping[str, _New], dtypes: Mapping[str, torch.dtype]
) -> int:
    """Write a file again in these dtypes; bytes of its tensors."""
    with safe_open(file, framework="pt") as stored:
        tensors = {
            key: changed[key].read() if key in changed else stored.get_tensor(key).to(dtype)
            for key, dtype in dtypes.items()
        }
    save_file(tensors, into, {"format": "pt"})
    return sum(tensor.nbytes for tensor in tensors.values())


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
