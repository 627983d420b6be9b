"""GGUF files, the checkpoints of llama.cpp: dequantised by transformers into ordinary weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from lga_fast import extras
from lga_fast.errors import LgaFastError

_FLOATS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def load_gguf(file: Path, dtype: torch.dtype | None, device_map: str | None) -> tuple[Any, Any]:
    """The model and the tokenizer in a GGUF file.

    `config.dequantised_from` says how the weights were stored, also once the model is saved.

    Args:
        file: of an architecture that transformers can convert.
        dtype: None: the file's, and bfloat16 if it is quantised.
        device_map: as for `from_pretrained`.

    Raises:
        LgaFastError: a package is missing, there is no such file, or it cannot be converted.
    """
    extras.need(f"{file.name}: a GGUF file", ["gguf", "accelerate"], "gguf")
    if not file.is_file():
        raise LgaFastError(f"{file}: expected a GGUF file, there is none; give the path of one")
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": str(file.resolve())}
    try:
        types = _types(file)
        quantised = [name for name in types if name not in _FLOATS]
        stored = torch.bfloat16 if quantised else next(_FLOATS[t] for t in _FLOATS if t in types)
        tokenizer = AutoTokenizer.from_pretrained(**source)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **source,
            dtype=dtype or stored,
            device_map=device_map,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
        hf, report = loaded
        if absent := report["missing_keys"]:
            raise ValueError(f"no tensor for {', '.join(sorted(absent)[:3])}")
    except Exception as error:  # the converters check little, so a file can fail in any way
        raise LgaFastError(
            f"{file}: expected a whole GGUF file of a language model that transformers converts "
            f"({type(error).__name__}: {error}); fetch it again, or load the model that it was "
            "made from, by its Hub id or folder"
        ) from error
    hf.config.architectures = [type(hf).__name__]  # as a saved config has it
    if quantised:
        hf.config.dequantised_from = ", ".join(quantised)
    return hf, tokenizer


def _types(file: Path) -> list[str]:
    """How the tensors of a file are stored; the type of most of the weights first."""
    from gguf import GGUFReader

    values = Counter[str]()
    for tensor in GGUFReader(file).tensors:
        values[tensor.tensor_type.name] += int(tensor.n_elements)
    return [name for name, _ in values.most_common()]
