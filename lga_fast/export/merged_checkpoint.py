"""A model with an edit merged into its weights, as a folder that transformers loads.

In a checkpoint of safetensors files, those without a changed tensor are copied; in copies of the
others the bytes of the changed tensors are overwritten. If the model runs in another dtype than its
checkpoint has, every file is rewritten in that dtype.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lga_fast import progress
from lga_fast.errors import EditError, LgaFastError
from lga_fast.export.edit_records import record_of
from lga_fast.files import clear_abandoned, share_all, unfinished, write_atomic, writing
from lga_fast.models import EditableModel, check_loaded
from lga_fast.parsing import parse_json
from lga_fast.streaming.checkpoint import Checkpoint
from lga_fast.streaming.checkpoint_files import INDEX, find_files, home_of, stored_dtype
from lga_fast.streaming.meta_model import meta_model
from lga_fast.streaming.safetensors_reader import SafetensorsReader
from lga_fast.weight_edit import WeightEdit

_CONFIGS = ("config.json", "generation_config.json", INDEX)
# What else holds for the edited model too; the tokenizer writes its own files.
_EXTRAS = ("*processor_config.json", "editing.json", "LICEN[CS]E*", "NOTICE*")


class _Replacement(NamedTuple):
    """The new value of a tensor."""

    dtype: torch.dtype
    read: Callable[[], Tensor]


class _Changes(NamedTuple):
    """What differs from a checkpoint."""

    by_file: dict[Path, dict[str, _Replacement]]  # by name in the file
    as_stored: bool  # all in the dtypes that they are stored in


def write_merged(edit: WeightEdit, folder: Path, model: EditableModel) -> None:
    """Write edited model and tokenizer into `folder`; see `WeightEdit.to_model`."""
    check_loaded(model)
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EditError(
            f"{folder}: expected a new or an empty folder for the edited model, got "
            f"{'one that holds something' if folder.is_dir() else 'a file'}; give another"
        )
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(folder)
        temporary = unfinished(folder)
        try:
            with nullcontext() if model.carries(edit) else model.edited(edit):
                _write(model, temporary)
                for name, text in record_of(model, model.edits_in_effect()).items():
                    write_atomic(temporary / name, text)
            model.tokenizer.save_pretrained(temporary)
            share_all(temporary)
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _write(model: EditableModel, folder: Path) -> None:
    if model.streamed:
        changes = _located(_overlaid(model), model.shards)
        if changes is None:
            raise LgaFastError(
                f"{model.name!r}: an edited tensor is built from several of the checkpoint and "
                "cannot be taken apart again; load the model with weights='resident'"
            )
        _write_files(model, folder, model.shards, changes)
        return
    checkpoint = _checkpoint_of(model)
    changes = _located(_differing(model, checkpoint), checkpoint) if checkpoint else None
    if checkpoint and changes:
        _write_files(model, folder, checkpoint, changes)
        return
    model.hf.save_pretrained(folder)
    if model.source is not None:
        _copy_matching(Path(model.source), folder, _EXTRAS)


def _checkpoint_of(model: EditableModel) -> Checkpoint | None:
    """The safetensors checkpoint that a resident model was loaded from; None if there is none."""
    if model.source is None:
        return None
    try:
        files = find_files(model.source)
        hf = meta_model(model.source, model.dtype, stored_dtype(files))
        with warnings.catch_warnings(action="ignore"):  # loading the model gave them
            checkpoint = Checkpoint(hf, files)
    except (LgaFastError, OSError):
        return None
    stored, held = ({n: t.shape for n, t in x.state_dict().items()} for x in (hf, model.hf))
    return checkpoint if stored == held and all(map(checkpoint.source, stored)) else None


def _overlaid(model: EditableModel) -> dict[str, _Replacement]:
    """The tensors that edits in effect change."""
    replacements = {}
    for place in model.matrices():
        name = model.weight_name(*place)
        if name in model.edited_names():
            dtype = model.matrix(*place).weight.dtype
            replacements[name] = _Replacement(dtype, partial(_loaded, model, place))
    return replacements


def _loaded(model: EditableModel, place: tuple[int, str]) -> Tensor:
    with model.loaded(place[0]):
        return model.matrix(*place).weight.detach().cpu()


def _differing(model: EditableModel, checkpoint: Checkpoint) -> dict[str, _Replacement]:
    """The tensors that differ from the checkpoint, all compared: training leaves no record."""
    replacements: dict[str, _Replacement] = {}
    state, names = model.hf.state_dict(), checkpoint.names("")
    with progress.bar("comparing tensors", len(names)) as advance:
        for name in names:
            for part, stored in checkpoint.read([name]).items():
                if not torch.equal(_bytes(stored), _bytes(state[part].cpu())):
                    replacements[part] = _Replacement(state[part].dtype, state[part].cpu)
            advance(1)
    return replacements


def _located(replacements: Mapping[str, _Replacement], checkpoint: Checkpoint) -> _Changes | None:
    """The changes by file; None if the checkpoint does not hold one of the tensors as it is."""
    by_file, as_stored = dict[Path, dict[str, _Replacement]](), True
    for name, replacement in replacements.items():
        place = checkpoint.location(name)
        if place is None:
            return None
        file, key, dtype = place
        by_file.setdefault(file, {})[key] = replacement
        as_stored = as_stored and dtype == replacement.dtype
    return _Changes(by_file, as_stored)


def _write_files(
    model: EditableModel, folder: Path, checkpoint: Checkpoint, changes: _Changes
) -> None:
    """Write the checkpoint's files with these changes, and the configuration."""
    folder.mkdir()
    root = home_of(str(model.source))
    _copy_matching(root, folder, (*_CONFIGS, *_EXTRAS))
    size = 0
    with progress.bar("writing files", len(checkpoint.files)) as advance:
        for file in checkpoint.files:
            replacements = changes.by_file.get(file, {})
            into = folder / file.relative_to(root)
            into.parent.mkdir(parents=True, exist_ok=True)
            if changes.as_stored:
                _copy(file, into, replacements)
            else:
                size += _convert(file, into, replacements, checkpoint.stored_in(file))
            advance(1)
    if changes.as_stored:
        return
    model.hf.config.save_pretrained(folder)  # the config names the dtype
    index = folder / INDEX
    if index.is_file():
        content = parse_json(index.read_text(encoding="utf-8"))
        content.setdefault("metadata", {})["total_size"] = size
        index.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _copy_matching(source: Path, folder: Path, patterns: Sequence[str]) -> None:
    for file in (file for pattern in patterns for file in source.glob(pattern)):
        if file.is_file():
            shutil.copyfile(file, folder / file.name)


def _copy(file: Path, into: Path, replacements: Mapping[str, _Replacement]) -> None:
    shutil.copyfile(file, into)
    if not replacements:
        return
    offsets = SafetensorsReader(into).offsets
    with into.open("r+b") as out:
        for key, replacement in replacements.items():
            out.seek(offsets[key])
            out.write(_bytes(replacement.read()).numpy().data)


def _convert(
    file: Path,
    into: Path,
    replacements: Mapping[str, _Replacement],
    dtypes: Mapping[str, torch.dtype],
) -> int:
    """Rewrite a file in these dtypes; returns the bytes of its tensors."""
    with safe_open(file, framework="pt") as stored:
        tensors = {
            key: replacements[key].read()
            if key in replacements
            else stored.get_tensor(key).to(dtype)
            for key, dtype in dtypes.items()
        }
    save_file(tensors, into, {"format": "pt"})
    return sum(tensor.nbytes for tensor in tensors.values())


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
