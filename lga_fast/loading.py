"""Loading a model by Hub id, path or name, or wrapping an object."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch

from lga_fast import load_arguments, memory, named_models
from lga_fast.chat import ChatTokenizer
from lga_fast.errors import LgaFastError, shortened
from lga_fast.gguf_file import load_gguf
from lga_fast.load_arguments import FromPretrained
from lga_fast.model_source import check_tokenizer, find_path, refuse_adapters
from lga_fast.models.editable import EditableModel
from lga_fast.parsing import parse_path
from lga_fast.streaming.checkpoint import Checkpoint
from lga_fast.streaming.checkpoint_files import (
    check_index,
    find_files,
    refuse_misfit,
    stored_dtype,
)
from lga_fast.streaming.meta_model import meta_model
from lga_fast.streaming.placement import choose_weights
from lga_fast.streaming.streamed_model import StreamedModel

Weights = Literal["resident", "streamed", "auto"]


def load(
    source: Any,
    tokenizer: Any = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    weights: Weights = "resident",
    memory_budget: int | str | None = None,
    chat: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
    allow_pickle: bool = False,
) -> EditableModel:
    """Load a causal language model.

    Args:
        source: Hub id, folder, GGUF file (its weights are dequantised, which `model.placement` and
            the provenance of results say), "atlas" (the embedded GPT-2), "atlas-llama",
            "smollm2-135m" or "gemma3-270m" (if fetched; docs/models.md), or a transformers model
            object, which is used as it is and needs `tokenizer`.
        tokenizer: tokenizer object; default: the one in the model's folder.
        device: e.g. "cuda"; default: CUDA if available, else the CPU. "auto": spread over all
            devices by accelerate.
        dtype: e.g. "bfloat16"; default: the checkpoint's, bfloat16 for a quantised GGUF file, and
            float32 for the atlas.
        weights: "resident": all in memory. "streamed": blocks are read from safetensors files when
            they are used, for a model that does not fit. Results are the same, but every forward
            reads the blocks, every backward reads them again, and edits are added at each reading.
            "auto": streamed if the weights take more than `memory_budget`, or more than half of the
            free memory.
        memory_budget: memory that a run may use in addition to resident weights, or in total with
            streamed ones, in bytes or e.g. "8GiB".
        chat: prompts are messages of a user, rendered by the tokenizer's chat template, contexts
            inside the message. For texts that are rendered already leave it off.
        revision: branch, tag or commit of a Hub id; results record the commit.
        token: for a Hub id that is not public; it is recorded nowhere.
        trust_remote_code: run the code that comes with a checkpoint; for resident weights.
        attn_implementation: "eager", "sdpa", ... as transformers names them; results record it.
        allow_pickle: also take weights from pickles (pytorch_model.bin), where a checkpoint has no
            safetensors files; torch reads them with weights_only=True.

    A folder may contain `editing.json`: by editor, options that suit the model and become that
    editor's defaults. The embedded models have one.

    Raises:
        LgaFastError: the source cannot be loaded, or its checkpoint lacks tensors; with `chat`, the
            tokenizer has no template.
        OptionError: `memory_budget` is not a positive number of bytes.
        UnsupportedModel: no family fits the model.
    """
    check_tokenizer(tokenizer)
    pretrained = FromPretrained(
        revision, token, trust_remote_code, attn_implementation, allow_pickle
    )
    budget = load_arguments.parse_budget(memory_budget)
    if weights not in get_args(Weights):
        raise LgaFastError(f"weights={weights!r}: expected 'resident', 'streamed' or 'auto'")
    if weights == "streamed" and device == "auto":
        raise LgaFastError("device='auto' spreads weights in memory; streamed run on one device")
    if not isinstance(source, (str, Path)):
        if weights == "streamed":
            raise LgaFastError("a model object has its weights in memory: drop weights='streamed'")
        pretrained.refuse("a model object is used as it is; give it to from_pretrained yourself")
        return _finished(_wrap(source, tokenizer, device, dtype, budget), pretrained, chat)
    name = str(source)
    parse_path(source)
    if named := named_models.find(name):
        path, dtype = str(named.folder), dtype or named.dtype
    else:
        path = find_path(source, on_hub=bool(revision or token))
    dtype, device = load_arguments.parse_dtype(dtype), load_arguments.parse_device(device)
    if Path(path).exists():
        pretrained.refuse(
            f"it is for Hub ids, and {path} is on this machine; leave it out", "revision"
        )
    if Path(path).suffix == ".gguf":
        if weights == "streamed":
            raise LgaFastError(
                f"{path}: a GGUF file is dequantised as a whole, and weights='streamed' reads "
                "safetensors; load it resident once, save model.hf and model.tokenizer with "
                "save_pretrained, and stream that folder"
            )
        gguf = _load_gguf(Path(path), tokenizer, device, dtype, budget, pretrained)
        return _finished(gguf, pretrained, chat)
    if weights == "streamed":
        why = "streamed weights run in transformers' own classes; use weights='resident'"
        pretrained.refuse(why, "trust_remote_code")
    editing, placement = load_arguments.read_editing(Path(path) / "editing.json"), ""
    check_index(path)
    from transformers import AutoTokenizer

    try:
        versioned = (revision or token) and not (trust_remote_code or Path(path).exists())
        if weights != "resident" and versioned:
            path = pretrained.snapshot(path)
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(path, **pretrained.of_files())
        if weights == "auto" and trust_remote_code:
            placement = "weights: resident, a checkpoint's own code cannot be streamed"
        elif weights == "auto":
            weights, placement = choose_weights(path, device, dtype, budget)
        if weights == "streamed":
            more = budget, editing, pretrained
            model = _load_streamed(path, tokenizer, name, device, dtype, *more)
        else:
            hf = _load_resident(path, device, dtype, pretrained)
            model = EditableModel(hf, tokenizer, name, budget, editing)
    except Exception as error:  # transformers checks few of the settings that it reads
        if isinstance(error, LgaFastError) or memory.out_of_memory(error):
            raise
        what = shortened(str(error), 600)
        raise LgaFastError(
            f"could not load {name!r} as a Hub id or a folder written by save_pretrained "
            f"({type(error).__name__}: {what}). If it is one, fetch or save it again; the embedded "
            "model is 'atlas'."
        ) from error
    model.placement, model.source = placement, path
    return _finished(model, pretrained, chat)


def _finished(model: EditableModel, pretrained: FromPretrained, chat: bool) -> EditableModel:
    """The model, whose provenance has what of these options changes results."""
    model.loaded_with = pretrained.provenance(model.hf)
    if chat:
        model.tokenizer = ChatTokenizer(model.tokenizer)
    return model


def _load_resident(
    path: str, device: str | torch.device, dtype: torch.dtype | None, pretrained: FromPretrained
) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype or "auto",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to be told which
            device_map="auto" if device == "auto" else None,
            **pretrained.of_model(),
        )
    except OSError as error:
        if pretrained.allow_pickle or "safetensors" not in str(error):
            raise
        raise LgaFastError(
            f"{path}: expected weights in safetensors files, got none. If they are in pickles "
            "(pytorch_model.bin) that you trust, load them with allow_pickle=True (--allow-pickle)."
        ) from error
    except RuntimeError as error:  # of tensors that become one, such as experts
        if memory.out_of_memory(error):
            raise
        raise ValueError(f"its tensors do not fit config.json: {error}") from error
    hf, info = loaded
    refuse_adapters(hf)
    refuse_misfit(path, info["missing_keys"], info["mismatched_keys"], info["unexpected_keys"])
    return _placed(hf, device)


def _load_gguf(
    file: Path,
    tokenizer: Any,
    device: str | torch.device,
    dtype: torch.dtype | None,
    budget: int | None,
    pretrained: FromPretrained,
) -> EditableModel:
    hf, its_tokenizer = load_gguf(file, dtype, "auto" if device == "auto" else None)
    pretrained.set_attention(hf)
    model = EditableModel(_placed(hf, device), tokenizer or its_tokenizer, str(file), budget)
    if before := model.dequantised_from:
        model.placement = f"weights: resident, dequantised from {before} to {model.dtype}"
    return model


def _placed(hf: Any, device: str | torch.device) -> Any:
    return (hf if device == "auto" else hf.to(torch.device(device))).eval()


def _load_streamed(
    path: str,
    tokenizer: Any,
    name: str,
    device: str | torch.device,
    dtype: torch.dtype | None,
    budget: int | None,
    editing: dict[str, dict[str, Any]],
    pretrained: FromPretrained,
) -> StreamedModel:
    files = find_files(path)
    hf = meta_model(path, dtype, stored_dtype(files), pretrained.attn_implementation)
    checkpoint = Checkpoint(hf, files)
    return StreamedModel(hf, tokenizer, name, checkpoint, torch.device(device), budget, editing)


def _wrap(hf: Any, tokenizer: Any, device: Any, dtype: Any, budget: int | None) -> EditableModel:
    if not hasattr(hf, "get_output_embeddings"):
        raise LgaFastError(f"expected a transformers model, a folder or a Hub id, got {type(hf)}")
    refuse_adapters(hf)
    if tokenizer is None:
        raise LgaFastError("a model object needs its tokenizer: load(model, tokenizer)")
    if device is not None or dtype is not None:
        raise LgaFastError(
            "a model object is used as it is: drop device= and dtype=, move or convert it yourself"
        )
    name = getattr(hf, "name_or_path", "") or type(hf).__name__
    return EditableModel(hf, tokenizer, name, budget)
