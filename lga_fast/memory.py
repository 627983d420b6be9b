"""What a pass may hold at once: batches by tokens and by memory."""

from __future__ import annotations

from collections.abc import Mapping

import psutil
import torch

from lga_fast import distributed
from lga_fast.errors import ScoringError
from lga_fast.forward.layer_major import chunk_by_size
from lga_fast.models import EditableModel
from lga_fast.streaming.streamed_model import StreamedModel

# What a process holds beside tensors: the interpreter and libraries take 0.2 to 0.3 GiB.
_PROCESS = 320 << 20


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


def memory(model: EditableModel) -> int:
    """The model's memory budget, or half of what its device has free."""
    if model.memory_budget is not None:
        return model.memory_budget
    if model.device.type == "cuda":
        return torch.cuda.mem_get_info(model.device)[0] // 2
    return _available() // 2


def memory_left(model: EditableModel) -> int:
    """Bytes a pass may use for activations.

    Resident weights lie outside the budget, streamed ones within it; and of what these leave, a
    quarter is for tensors that wait between the sweeps (on CUDA, where they wait in CPU memory, for
    what allocators lose).

    Raises:
        ScoringError: the budget does not hold what a streamed pass needs.
    """
    if not isinstance(model, StreamedModel):
        return memory(model)
    left = memory(model) - weights_bytes(model)
    if left <= 0:
        raise ScoringError(
            f"{model.name!r}: expected memory for streaming its weights, got "
            f"{size(memory(model))} for {size(weights_bytes(model))}: {weights_told(model)}. "
            "Give a larger memory_budget."
        )
    return left * 3 // 4


def waiting_left(model: EditableModel) -> int:
    """Bytes that may wait in CPU memory between the sweeps of a streamed pass."""
    if model.device.type == "cuda":
        return _available() // 4
    return max(0, memory(model) - weights_bytes(model)) // 4


def weights_bytes(model: EditableModel) -> int:
    """Bytes within the budget that a pass uses for weights, and the process for itself."""
    if not isinstance(model, StreamedModel):
        return 0
    held = model.block_bytes() + max(model.block_bytes(), model.head_bytes())
    held += model.rest_bytes() + model.making_bytes()
    return held + (_PROCESS if model.device.type == "cpu" else 0)


def weights_told(model: EditableModel) -> str:
    """What `weights_bytes` are, for people."""
    if not isinstance(model, StreamedModel):
        return "in memory already"
    process = f", {size(_PROCESS)} of the process itself" if model.device.type == "cpu" else ""
    return (
        f"a block of {size(model.block_bytes())} and another or the head of "
        f"{size(model.head_bytes())}, "
        f"{size(model.rest_bytes())} that stay, {size(model.making_bytes())} while a tensor is "
        f"converted{process}"
    )


def checkpointed_told(count: int, batches: int) -> str:
    """That so many of the batches are checkpointed, for people."""
    return (
        f"checkpointed: {count} of {batches} batches keep only what enters their blocks, and "
        "compute the rest twice, as a fact's activations would not fit otherwise"
    )


def token_bytes(model: EditableModel, checkpointed: bool = False) -> int:
    """Bytes one token holds in a pass with backward, of all blocks together; an upper estimate.

    Per block: the residual stream, norms and attention keep about twelve vectors of the hidden
    size; the MLP keeps inputs and outputs of its activation and of every matrix. The attention's
    T² terms are left to the factor of two that `memory_left` keeps. A streamed model holds one
    block's activations at a time; so does a checkpointed pass, and their gradients (measured), what
    enters every block, and the gradients of that for two of them.
    """
    itemsize = torch.finfo(model.dtype).bits // 8
    hidden = model.config.hidden_size
    inner = model.mlp_width * 2
    if checkpointed:
        return ((model.layers + 5) * hidden + 2 * (12 * hidden + inner)) * itemsize
    blocks = 1 if isinstance(model, StreamedModel) else model.layers
    return blocks * (12 * hidden + inner) * itemsize


def cache_bytes(model: EditableModel) -> int:
    """Bytes one decoded token keeps: keys and values of all blocks, and hidden states of two."""
    config = model.config
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = 2 * model.layers * (getattr(config, "num_key_value_heads", None) or heads) * width
    return (kept + 2 * config.hidden_size) * torch.finfo(model.dtype).bits // 8


def decoded(
    model: EditableModel,
    widths: Mapping[int, int],
    batch_tokens: int,
    together_tokens: int | None = None,
) -> list[list[list[int]]]:
    """Batches to decode; batches that are decoded in step, and keep what they need, together.

    Args:
        model: with streamed weights every batch gets a token at each reading of the blocks.
        widths: tokens of a prompt and its answer, by item.
        batch_tokens: tokens in one batch at most; fewer where memory asks for it.
        together_tokens: tokens of batches in step at most; None: what memory is planned for.
    """
    left, one = memory_left(model), cache_bytes(model)
    block = token_bytes(model) // (1 if isinstance(model, StreamedModel) else model.layers)
    groups = batches(widths, min(batch_tokens, int(left / (block + one))))
    if not isinstance(model, StreamedModel):
        return [[group] for group in groups]
    sizes = [len(group) * widths[group[0]] for group in groups]
    limit = (left - max(sizes, default=0) * block) // one
    limit = limit if together_tokens is None else min(limit, together_tokens)
    return [[groups[i] for i in together] for together in chunk_by_size(sizes, limit)]


def holds(model: EditableModel, count: int) -> bool:
    """Whether the system can hold so many bytes of files in memory beside a pass."""
    return _available() - (memory(model) if model.device.type == "cpu" else 0) > count


def logit_bytes(model: EditableModel) -> int:
    """Bytes one labelled position holds: logits, log-probabilities and their gradient."""
    return model.hf.get_output_embeddings().weight.shape[0] * 4 * 4


def _available() -> int:
    """CPU memory that is free, of several ranks on this machine each one's share."""
    return psutil.virtual_memory().available // distributed.current().local_world_size


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, on whichever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def size(count: int) -> str:
    """Bytes for people."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1024:.0f} KiB"
