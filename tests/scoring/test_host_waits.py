"""The host launches a pass and waits for nothing that the device computes.

On the meta device there are no values, so that reading one is an error, and boolean indexing too.
"""

from __future__ import annotations

from unittest import mock

import pytest
import tiny
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lga_fast.datasets import easyedit_requests
from lga_fast.scoring import batch_layout, scoring_pass
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import build_pairs
from lga_fast.scoring.scoring_pass import ScoringPass

# Others are mixtures, which read once per layer how many tokens each expert has.
FAMILIES = ["gpt2", "llama", "gemma3", "qwen3", "phi3", "opt", "gpt_neox", "falcon", "qwen3_5_text"]


class Launches(TorchDispatchMode):
    """Counts the ops that run, and refuses copies to the device for which the host waits."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        self.counts[func.name()] = self.counts.get(func.name(), 0) + 1
        if isinstance(output, Tensor) and output.is_meta and "lga_fast" not in func.name():
            of_host = [x for x in args if isinstance(x, Tensor) and not x.is_meta and x.ndim]
            assert not of_host or (kwargs or {}).get("non_blocking"), f"{func.name()} waits"
        return output


def launches(family: str, packed: bool) -> dict[str, int]:
    """Of one batch's forward and backward."""
    model = tiny.model(family)
    options = ScoringOptions("model", abs_new=True, at_subject=not packed)
    with model.frozen():
        pairs, _ = build_pairs(model, easyedit_requests(tiny.REQUESTS), options)
        model.hf.to("meta")
        scoring = ScoringPass(model, pairs, options)
        with (
            mock.patch.object(scoring_pass, "Arrival"),  # the copy to the host, of all results
            # transformers asks once for each forward, before the blocks, whether rows are packed
            mock.patch(
                "transformers.masking_utils.find_packed_sequence_indices", return_value=None
            ),
            Launches() as counted,
        ):
            scoring.run(batch_layout.Batch(list(range(len(pairs))), packed))
    return counted.counts


@pytest.mark.parametrize("family", FAMILIES)
def test_separate_rows(family):
    counts = launches(family, packed=False)
    model = tiny.model(family)
    assert counts["lga_fast::grad_dot"] == len(model.matrices())  # that of a bias included


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "gpt_neox"])
def test_packed_rows(family):
    counts = launches(family, packed=True)
    assert counts["lga_fast::grad_dot"] == len(tiny.model(family).matrices())


def test_a_value_that_is_read_would_be_found():
    x = torch.empty(3, device="meta")
    for reads in (x.sum().item, lambda: x[x > 0], x.cpu, x.tolist, lambda: bool(x.any())):
        with pytest.raises((RuntimeError, NotImplementedError), match=r"[Mm]eta"):
            reads()
    with Launches(), pytest.raises(AssertionError, match="waits"):
        torch.arange(3).to("meta")


def test_results_of_a_batch_are_read_after_the_next_one_is_launched(monkeypatch):
    events: list[str] = []
    model = tiny.model("gpt2")
    options = ScoringOptions("model")
    with model.frozen():
        pairs, _ = build_pairs(model, easyedit_requests(tiny.REQUESTS), options)
        scoring = ScoringPass(model, pairs, options)
        add = scoring._add
        monkeypatch.setattr(scoring, "_add", lambda *args: (events.append("read"), add(*args)))
        for i in range(3):
            events.append("launch")
            scoring.run(batch_layout.Batch([i], packed=False))
        scoring.finish()
    assert events == ["launch", "launch", "read", "launch", "read", "read"]
