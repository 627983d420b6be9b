"""Values of experts that transformers joins, read from where they lie in the checkpoint."""

from __future__ import annotations

import pytest
import tiny
import torch
from both_placements import both

# Whose experts are stored as transformers has them.
AS_THEY_ARE = ["gpt_oss", "llama4_text", "granitemoehybrid", "gemma4_text-mixture"]


@pytest.mark.parametrize("family", tiny.MIXTURES)
def test_a_fingerprint_reads_few_values(family, tmp_path, monkeypatch):
    """As few of a mixture's experts as of any other tensor, and the resident model's values."""
    resident, streamed = both(tmp_path, tiny.model(family, torch.float32))
    said, before = streamed.fingerprint_bytes(), streamed.shards.bytes_read
    assert streamed.fingerprint() == resident.fingerprint()
    assert streamed.shards.bytes_read - before == said < streamed.sweep_bytes() / 20
    if family in AS_THEY_ARE:
        return
    joined = [n for n in streamed.shards.names("model.layers.1.") if "mlp.experts" in n]
    few = {n: streamed.shards.sample(n, 50) for n in joined}
    assert joined
    # As if the converter were not known.
    monkeypatch.setattr("lga_fast.streaming._merged_tensors.MergeModulelist", type(None))
    for n in joined:
        assert streamed.shards.sample_bytes(n, 50) == streamed.shards.stored_bytes([n])
        assert torch.equal(streamed.shards.sample(n, 50), few[n])
