"""Memory budgets, what a model's activations and caches take of them, and batches that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import psutil
import torch

from lga_fast import distributed


@runtime_checkable
class ModelSizes(Protocol):
    """What `Memory` asks of a model."""

    memory_budget: int | None  # bytes
    config: Any
    hf: Any

    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def layers(self) -> int: ...
    @property
    def mlp_width(self) -> int: ...


class Memory:
    """Bytes that a run of one model may hold, and bytes that it needs per token.

    Of a model whose weights are in memory; they do not count towards the budget.
    """

    def __init__(self, model: ModelSizes) -> None:
        self._model, self._device = model, model.device
        self._itemsize = torch.finfo(model.dtype).bits // 8
        self._hidden = model.config.hidden_size
        self.active_blocks = model.layers  # whose activations a pass with backward holds at once

    @property
    def budget(self) -> int:
        """The model's memory budget, or half of what its device has free."""
        if self._model.memory_budget is not None:
            return self._model.memory_budget
        return available_on(self._device) // 2

    @property
    def activation_budget(self) -> int:
        """Bytes that activations may take."""
        return self.budget

    @property
    def store_budget(self) -> int:
        """Bytes of CPU memory that tensors may take while they wait for their next block."""
        return available() // 4 if self._device.type == "cuda" else self.budget // 4

    @property
    def weights_bytes(self) -> int:
        """Bytes within the budget that weights and the process itself take."""
        return 0

    def describe_weights(self) -> str:
        """What `weights_bytes` are made up of."""
        return "in memory already"

    def token_bytes(self, checkpointed: bool = False) -> int:
        """Bytes one token holds in a pass with backward; an upper estimate.

        Per block: the residual stream, norms and attention keep about twelve vectors of the hidden
        size; the MLP keeps inputs and outputs of its activation and of every matrix. The
        attention's T² terms are left to the factor of two that the default budget keeps. A
        checkpointed pass holds one block's activations and their gradients at a time (measured),
        what enters every block, and the gradients of that for two of them.
        """
        block = self.block_token_bytes
        if checkpointed:
            return (self._model.layers + 5) * self.hidden_bytes + 2 * block
        return self.active_blocks * block

    @property
    def block_token_bytes(self) -> int:
        """Bytes one token holds in one block; what a forward without backward needs."""
        return (12 * self._hidden + 2 * self._model.mlp_width) * self._itemsize

    def step_bytes(self, recorded: float) -> float:
        """Bytes per token of an optimisation step that starts from a recorded forward.

        Args:
            recorded: tokens of the recorded forward for each one of the step.
        """
        return self.token_bytes() * (1 + recorded / 4)

    @property
    def hidden_bytes(self) -> int:
        """Bytes of one token's hidden state."""
        return self._hidden * self._itemsize

    @property
    def held_tokens(self) -> int:
        """Tokens whose hidden states a store may hold."""
        return self.store_budget // self.hidden_bytes

    @property
    def cache_bytes(self) -> int:
        """Bytes one decoded token keeps: keys and values of all blocks, hidden states of two."""
        widths = [self._cache_width(config) for config in self._layer_configs()]
        return 2 * (sum(widths) + self._hidden) * self._itemsize

    def _layer_configs(self) -> list[Any]:
        """The config of each layer; some models have other heads in some layers."""
        config, layers = self._model.config, self._model.layers
        if getattr(config, "is_heterogeneous", False):  # from transformers 5.20 on
            return [config.per_layer_config[layer] for layer in range(layers)]
        return [config] * layers

    def _cache_width(self, config: Any) -> int:
        """Values of one token's key in a layer; an upper estimate where it has a state instead."""
        heads = getattr(config, "num_attention_heads", None) or 1
        width = getattr(config, "head_dim", None) or self._hidden // heads
        return width * (getattr(config, "num_key_value_heads", None) or heads)

    @property
    def logit_bytes(self) -> int:
        """Bytes one labelled position holds: logits, log-probabilities and their gradient."""
        return self._model.hf.get_output_embeddings().weight.shape[0] * 4 * 4


def available() -> int:
    """Free CPU memory; with several ranks on this machine, each one's share."""
    return psutil.virtual_memory().available // distributed.current().local_world_size


def available_on(device: torch.device) -> int:
    """Free memory of a device; on CUDA with what torch's allocator keeps for later tensors.

    Without the latter, a second pass of a process would plan smaller batches than the first, and
    so round otherwise.
    """
    if device.type != "cuda":
        return available()
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, on whichever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def batches(lengths: Mapping[int, int], batch_tokens: int, alike: float = 0.0) -> list[list[int]]:
    """Group items by length so that items × longest stays within `batch_tokens`, longest first.

    Every batch holds at least one item, however long, and none shorter than `alike` × its longest.
    Ties keep the items' order.
    """
    groups: list[list[int]] = []
    width = 0
    for item in sorted(lengths, key=lambda i: -lengths[i]):
        full = groups and (len(groups[-1]) + 1) * width > batch_tokens
        if not groups or full or lengths[item] < alike * width:
            groups.append([])
            width = lengths[item]
        groups[-1].append(item)
    return groups


def chunk_by_size(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Numbers of neighbours whose sizes add up to the limit at most; always one at least."""
    chunks: list[list[int]] = []
    total = 0
    for i, size in enumerate(sizes):
        total += size
        if not chunks or total > limit:
            chunks.append([])
            total = size
        chunks[-1].append(i)
    return chunks


def describe_checkpointed(count: int, batches: int) -> str:
    """That so many of the batches are checkpointed."""
    return (
        f"checkpointed: {count} of {batches} batches keep only what enters their blocks, and "
        "compute the rest twice, as a fact's activations would not fit otherwise"
    )


def format_bytes(count: int) -> str:
    """Bytes with a readable unit."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1024:.0f} KiB"
