"""Where a model comes from: a path that exists, a Hub id, an object without adapters."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from lga_fast.errors import LgaFastError
from lga_fast.parsing import parse_path

_ADAPTER = "adapter_config.json"


def find_path(source: str | Path, on_hub: bool = False) -> str:
    """A Hub id as it is, or a path that exists; a GGUF file need not.

    A path is what begins like one, has more parts than a Hub id, or is in a folder that exists,
    unless the Hub's cache has a model of this name or `on_hub` says that it is one.

    Raises:
        LgaFastError: there is nothing at the path, or it is the folder of a PEFT adapter.
    """
    path = parse_path(source)
    if path.exists():
        if (path / _ADAPTER).is_file():
            raise LgaFastError(
                f"{path}: expected a model, got a PEFT adapter ({_ADAPTER}). Merge it: model = "
                f"peft.AutoPeftModelForCausalLM.from_pretrained({str(path)!r}).merge_and_unload(), "
                "then load(model, tokenizer=...)."
            )
        return str(path)
    text = str(source)
    if path.suffix == ".gguf":
        return str(path)
    begins = path.is_absolute() or text.startswith((".", "~")) or "\\" in text
    parts = text.count("/") + (text.count(os.sep) if os.sep != "/" else 0)
    certain = isinstance(source, Path) or begins or parts > 1
    if not certain and (parts == 0 or not path.parent.is_dir() or on_hub or _cached(text)):
        return text
    names = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""
    missing = "there is none" if path.parent.is_dir() else f"there is no folder {path.parent}"
    other = "" if certain else " If it is a Hub id, say which revision, such as 'main'."
    raise LgaFastError(f"{text}: expected a folder, {missing}.{hint}{other}")


def _cached(hub_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(hub_id, "config.json"), str)
    except HFValidationError:
        return False


def check_tokenizer(tokenizer: Any) -> None:
    """Refuse what is no tokenizer, such as the name of one; None is fine.

    Raises:
        LgaFastError: so it is.
    """
    if tokenizer is not None and not callable(tokenizer):
        raise LgaFastError(
            f"load: tokenizer: expected a tokenizer object, got {tokenizer!r}; make one with "
            "transformers.AutoTokenizer.from_pretrained(...)"
        )


def refuse_adapters(hf: Any) -> None:
    """Refuse a model whose weights are not all its own, because adapters of PEFT add to them.

    PEFT itself is not imported: its layers and its models are told by what their classes have.

    Raises:
        LgaFastError: it has adapters; the message has the call that merges them.
    """
    wrapped = any(cls.__module__.partition(".")[0] == "peft" for cls in type(hf).__mro__)
    layers = [name for name, m in hf.named_modules() if hasattr(type(m), "adapter_layer_names")]
    if not wrapped and not layers:
        return
    what = f"a PEFT {type(hf).__name__}" if wrapped else f"{type(hf).__name__} with PEFT adapters"
    where = f" in {len(layers)} modules, such as {layers[0]}" if layers else ""
    mend = "Merge them into the weights: load(model.merge_and_unload(), tokenizer=...)"
    if not layers:  # prompts that are learnt, which no weights can hold
        mend = (
            "Load what it wraps, without its prompts: load(model.get_base_model(), tokenizer=...)"
        )
    elif not wrapped:
        mend += ", where model is what get_peft_model or PeftModel.from_pretrained returned"
    raise LgaFastError(f"expected a model with weights of its own, got {what}{where}. {mend}.")
