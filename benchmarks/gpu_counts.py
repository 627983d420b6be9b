"""What a scoring pass asks of a GPU, counted without one: `python benchmarks/gpu_counts.py`.

Models and requests are those of gpu.py's targets. Batches are planned as on a device with 40 GiB to
spare, and run on the meta device: shapes without values, so that a pass in which the host reads
back anything would fail. Launches are ops that are neither views nor allocations, and of our own
ops the kernels that they launch. Writes results/gpu_counts.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import selection
import timing
import torch
from gpu_parts.targets import LENGTHS, shapes
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from lga_fast.datasets import easyedit_requests
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.scoring import batch_layout, scoring_pass
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import build_pairs
from lga_fast.scoring.scoring_pass import ScoringPass

BUDGET = 40 << 30
SLOTS = 64  # pairs that a launch of grad_dot takes


class Launches(TorchDispatchMode):
    """Counts launches, and what `grad_dot` reads and multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = dict.fromkeys(
            ("launches", "grad_dot_launches", "grad_dot_bytes", "grad_dot_multiply_adds"), 0
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        aliases = [value.alias_info for value in func._schema.returns]
        view = any(alias is not None and not alias.is_write for alias in aliases)
        if func.name() == "lga_fast::grad_dot":
            self._grad_dot(*args[:6])
        elif not view and not func.name().startswith("aten::empty"):
            self.counts["launches"] += 1
        return output

    def _grad_dot(
        self, a: Tensor, d: Tensor, rows_old: Tensor, a_new: Tensor, d_new: Tensor, rows_new: Tensor
    ) -> None:
        count = 1 + 3 * -(-len(rows_old) // SLOTS)  # zeros, then tiles, their products, the sums
        self.counts["launches"] += count
        self.counts["grad_dot_launches"] += count
        tokens = (rows_old + rows_new)[:, 1]
        sides = a.shape[1] + d.shape[1]
        self.counts["grad_dot_bytes"] += int(tokens.sum()) * sides * a.itemsize
        self.counts["grad_dot_multiply_adds"] += int((tokens * (tokens + 1) // 2).sum()) * sides


def on_a_device(model: EditableModel) -> float:
    """`launch_tokens` as for CUDA."""
    with mock.patch.object(type(model), "device", torch.device("cuda")):
        return batch_layout.launch_tokens(model)


def count(model: EditableModel, requests: Sequence[EditRequest]) -> dict[str, Any]:
    """Counts of one pass over these requests, with old answers of the data."""
    options = ScoringOptions("ground_truth")
    launching = on_a_device(model)
    with (
        model.frozen(),
        mock.patch.object(batch_layout, "launch_tokens", lambda model: launching),
        mock.patch.object(scoring_pass, "Arrival"),
        # transformers asks once for each forward, before the blocks, whether rows are packed
        mock.patch("transformers.masking_utils.find_packed_sequence_indices", return_value=None),
        FlopCounterMode(display=False) as operations,
        Launches() as launches,
    ):
        pairs, _ = build_pairs(model, easyedit_requests(requests), options)
        batches = batch_layout.plan_batches(model, pairs, options, options.batch_tokens)
        scoring = ScoringPass(model, pairs, options)
        for batch in batches:
            scoring.run(batch)
    separate = sum(not batch.packed for batch in batches)
    return {
        "batches": len(batches),
        "packed": len(batches) - separate,
        "host_waits_of_ours": 0,  # else it would have failed
        "host_waits_of_transformers": separate,
        "model_operations": operations.get_total_flops(),
    } | launches.counts


def rows() -> list[dict[str, Any]]:
    """Every model with every data set's lengths."""
    found = []
    for name, config in shapes(small=False).items():
        model = selection.model_of(config, "meta", torch.bfloat16)
        model.memory_budget = BUDGET
        for data, lengths in LENGTHS.items():
            requests = selection.requests_of(lengths, config.vocab_size)
            found.append({"model": name, "data": data, "requests": len(requests)})
            found[-1] |= count(model, requests)
            timing.say(f"{found[-1]}")
    return found


if __name__ == "__main__":
    timing.write_result("gpu_counts", rows(), selection.SEED)
