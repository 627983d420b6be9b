"""What a pass may hold at once: batches by tokens and by memory."""

from __future__ import annotations

from collections.abc import Mapping

import psutil
import torch

from lga_fast.models import EditableModel


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


def memory_left(model: EditableModel) -> int:
    """Bytes a pass may use: the model's budget, or half of what its device has free."""
    if model.memory_budget is not None:
        return model.memory_budget
    if model.device.type == "cuda":
        return torch.cuda.mem_get_info(model.device)[0] // 2
    return psutil.virtual_memory().available // 2


def token_bytes(model: EditableModel) -> int:
    """Bytes one token holds in a pass with backward, of all blocks together; an upper estimate.

    Per block: the residual stream, norms and attention keep about twelve vectors of the hidden
    size; the MLP keeps inputs and outputs of its activation and of every matrix. The attention's
    T² terms are left to the factor of two that `memory_left` keeps.
    """
    itemsize = torch.finfo(model.dtype).bits // 8
    hidden = model.config.hidden_size
    inner = model.mlp_width * 2
    return model.layers * (12 * hidden + inner) * itemsize


def logit_bytes(model: EditableModel) -> int:
    """Bytes one labelled position holds: logits, log-probabilities and their gradient."""
    return model.hf.get_output_embeddings().weight.shape[0] * 4 * 4
