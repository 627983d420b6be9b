"""Loading a model by Hub id, folder, the atlas's name, or from an object."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args

import psutil
import torch
from safetensors import SafetensorError

from lga_fast import distributed
from lga_fast.errors import LgaFastError
from lga_fast.models.editable import EditableModel
from lga_fast.streaming.checkpoint import Checkpoint
from lga_fast.streaming.checkpoint_files import find_files, stored_dtype, weight_bytes
from lga_fast.streaming.meta_model import meta_model
from lga_fast.streaming.streamed_model import StreamedModel

Weights = Literal["resident", "streamed", "auto"]

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def load(
    source: Any,
    *,
    tokenizer: Any = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    weights: Weights = "resident",
    memory_budget: int | str | None = None,
) -> EditableModel:
    """Load a causal language model.

    Args:
        source: Hub id, folder, "atlas" (the embedded GPT-2), "atlas-llama", or a transformers
            model object, which is used as it is and needs `tokenizer`.
        tokenizer: tokenizer object; default: the one that lies beside the model.
        device: e.g. "cuda"; default: CUDA where there is one, else the CPU. Also "auto": spread
            over all devices by accelerate.
        dtype: e.g. "bfloat16"; default: the checkpoint's, and float32 for the atlas.
        weights: "resident": all in memory. "streamed": read from safetensors files block by block
            while they are used, for a model that does not fit. All else is as ever, only that
            every forward reads the blocks, and every backward again; an edit is added whenever a
            block is read. "auto": streamed where the weights take more than `memory_budget`, or
            than half of the memory that is free.
        memory_budget: memory a run may use beside resident weights, or with streamed ones in all,
            e.g. "8GiB".

    A folder may hold `editing.json`: by editor, the options that suit the model, which then are
    that editor's defaults. The embedded models have one.

    Raises:
        LgaFastError: the source cannot be loaded, with what was tried.
        UnsupportedModel: no family file fits the model.
    """
    budget = parse_bytes(memory_budget) if isinstance(memory_budget, str) else memory_budget
    if weights not in get_args(Weights):
        raise LgaFastError(f"weights={weights!r}: expected 'resident', 'streamed' or 'auto'")
    if weights == "streamed" and device == "auto":
        raise LgaFastError(
            "device='auto' spreads weights in memory; streamed ones run on one device"
        )
    if not isinstance(source, (str, Path)):
        if weights == "streamed":
            raise LgaFastError("a model object has its weights in memory: drop weights='streamed'")
        return _wrap(source, tokenizer, device, dtype, budget)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path, name = str(source), str(source)
    if name == "atlas" or (name.startswith("atlas-") and not Path(name).exists()):
        from lga_fast import atlas

        path = str(atlas.folder(name))
        dtype = dtype or torch.float32
    if isinstance(dtype, str) and dtype != "auto":
        dtype = _dtype(dtype)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    placed = {"device_map": "auto"} if device == "auto" else {}
    editing, placement = _editing(Path(path) / "editing.json"), ""
    try:
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(path)
        if weights == "auto":
            weights, placement = _chosen(path, device, dtype, budget)
        if weights == "streamed":
            made = _streamed(path, tokenizer, name, torch.device(device), dtype, budget, editing)
            made.placement, made.source = placement, path
            return made
        hf = AutoModelForCausalLM.from_pretrained(path, dtype=dtype or "auto", **placed)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise LgaFastError(
            f"could not load {name!r} as a Hub id or a folder written by save_pretrained "
            f"({type(error).__name__}: {error}). The embedded model is 'atlas'."
        ) from error
    if not placed:
        hf.to(torch.device(device))  # type: ignore[arg-type]
    made = EditableModel(hf.eval(), tokenizer, name, budget, editing)
    made.placement, made.source = placement, path
    return made


def _chosen(
    path: str, device: str | torch.device, dtype: Any, budget: int | None
) -> tuple[Weights, str]:
    """Where the weights shall be, and why."""
    if device == "auto":
        return "resident", "weights: resident, spread over the devices"
    from transformers import AutoConfig

    if getattr(AutoConfig.from_pretrained(path), "quantization_config", None):
        return "resident", "weights: resident, quantised ones cannot be streamed"
    if torch.device(device).type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available // distributed.current().local_world_size
    try:
        files = find_files(path)
    except LgaFastError:
        return "resident", "weights: resident, there are no safetensors files to stream"
    needed = weight_bytes(files, None if dtype == "auto" else dtype)
    limit, what = (budget, "the memory budget") if budget else (free // 2, "half the free memory")
    fits = needed <= limit
    sizes = f"they take {needed >> 20} MiB, {what} is {limit >> 20} MiB"
    return "resident" if fits else "streamed", (
        f"weights: {'resident' if fits else 'streamed'}, {sizes}"
    )


def _streamed(
    path: str,
    tokenizer: Any,
    name: str,
    device: torch.device,
    dtype: Any,
    budget: int | None,
    editing: dict[str, dict[str, Any]],
) -> StreamedModel:
    files = find_files(path)
    hf = meta_model(path, None if dtype == "auto" else dtype, stored_dtype(files))
    shards = Checkpoint(hf, files)
    return StreamedModel(hf, tokenizer, name, shards, device, budget, editing)


def _editing(file: Path) -> dict[str, dict[str, Any]]:
    """What a model's folder says of editing it."""
    if not file.is_file():
        return {}
    try:
        advice = json.loads(file.read_text(encoding="utf-8"))
        if all(isinstance(options, dict) for options in advice.values()):
            return advice
        problem = f"got {advice!r}"
    except (OSError, ValueError, AttributeError) as error:
        problem = str(error)
    raise LgaFastError(f"{file}: expected editors with their options, {problem}")


def _wrap(hf: Any, tokenizer: Any, device: Any, dtype: Any, budget: int | None) -> EditableModel:
    if not hasattr(hf, "get_output_embeddings"):
        raise LgaFastError(f"expected a transformers model, a folder or a Hub id, got {type(hf)}")
    if tokenizer is None:
        raise LgaFastError("a model object needs its tokenizer: load(model, tokenizer=...)")
    if device is not None or dtype is not None:
        raise LgaFastError(
            "a model object is used as it is: drop device= and dtype=, move or convert it yourself"
        )
    name = getattr(hf, "name_or_path", "") or type(hf).__name__
    return EditableModel(hf, tokenizer, name, budget)


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise LgaFastError(f"dtype {name!r}: expected auto, float32, bfloat16, float16 or float64")
    return found


def parse_bytes(text: str) -> int:
    """Bytes of a size such as "8GiB" or "500 MB".

    Raises:
        LgaFastError: it is not a number with a known unit.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].upper() not in _UNITS:
        raise LgaFastError(f"memory size {text!r}: expected a number and a unit, such as 8GiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])
