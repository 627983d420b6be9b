"""A model without weights: on `meta`, except for buffers that no checkpoint stores."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from lga_fast.errors import LgaFastError, UnsupportedModel


def meta_model(
    source: str,
    dtype: torch.dtype | None,
    stored: torch.dtype,
    attn_implementation: str | None = None,
) -> Any:
    """A transformers model on `meta` as config.json describes it.

    Args:
        source: folder or Hub id.
        dtype: of the weights; None: as config.json says, else as stored.
        stored: the checkpoint's dtype.
        attn_implementation: as transformers takes it.

    Raises:
        LgaFastError: the weights are quantised.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if getattr(config, "quantization_config", None):
        raise LgaFastError(
            f"weights='streamed': expected weights in a floating-point dtype, {source!r} has "
            "quantised ones; load it with weights='resident'"
        )
    wanted = dtype or config.dtype or config.get_text_config().dtype or stored
    with torch.device("meta"):
        hf = AutoModelForCausalLM.from_config(
            config, dtype=wanted, attn_implementation=attn_implementation
        )
    hf.requires_grad_(False).eval()
    with suppress(OSError):  # there need not be a generation_config.json
        hf.generation_config = GenerationConfig.from_pretrained(source)
    return hf


def fill_buffers(hf: Any, decoder: str, device: torch.device) -> None:
    """Compute the buffers that are not in a checkpoint, such as rotary frequencies.

    transformers computes them when it initialises weights. A result that depends on the buffer's
    previous contents was not computed.

    Args:
        hf: a model on `meta`, whose weights stay there.
        decoder: path of the text decoder.
        device: where the buffers go.

    Raises:
        UnsupportedModel: a tensor of the text decoder is neither in the checkpoint nor computed.
    """
    stored = hf.state_dict(keep_vars=True)
    for tensor in stored.values():
        tensor._is_hf_initialized = True
    names = [name for name, _ in hf.named_buffers() if name not in stored]
    first, second = (_computed(hf, names, initial) for initial in (0, 1))
    within = [name for name in names if name.startswith(f"{decoder}.")]
    unknown = [name for name in within if not torch.equal(first[name], second[name])]
    for path, module in hf.get_submodule(decoder).named_modules(prefix=decoder):
        plain = (name for name, t in vars(module).items() if isinstance(t, Tensor) and t.is_meta)
        unknown += [f"{path}.{name}" for name in plain]
    if unknown:
        raise UnsupportedModel(
            f"{type(hf).__name__} has tensors that are not in its checkpoint and that transformers "
            f"does not compute when it loads one: {', '.join(unknown[:3])}. Load it with "
            "weights='resident'."
        )
    for name in names:
        _set_buffer(hf, name, first[name].to(device))


def _computed(hf: Any, names: list[str], initial: int) -> dict[str, Tensor]:
    for name in names:
        _set_buffer(hf, name, torch.full_like(hf.get_buffer(name), initial, device="cpu"))
    for module in hf.modules():
        module._is_hf_initialized = False
    hf.initialize_weights()
    return {name: hf.get_buffer(name) for name in names}


def _set_buffer(hf: nn.Module, name: str, buffer: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(hf.get_submodule(path), leaf, buffer)
