"""What tests of streamed weights share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tiny

import lga_fast
from lga_fast.layer_scores import LayerScores
from lga_fast.models import EditableModel
from lga_fast.streaming.streamed_model import StreamedModel

REQUESTS = tiny.REQUESTS[:4]


def both(path: Path, model: EditableModel, **options: Any) -> tuple[EditableModel, StreamedModel]:
    """A model from a folder of many files, resident and streamed."""
    model.hf.save_pretrained(path, max_shard_size="30KB")
    model.tokenizer.save_pretrained(path)
    streamed = lga_fast.load(path, device="cpu", weights="streamed", **options)
    assert isinstance(streamed, StreamedModel) and len(streamed.shards.files) > 3
    return lga_fast.load(path, device="cpu", **options), streamed


def assert_same_bits(got: LayerScores, want: LayerScores) -> None:
    assert got.case_ids == want.case_ids and list(got.dot) == list(want.dot)
    for field in ("dot", "norm2_old", "norm2_new", "abs_new"):
        for name, values in getattr(want, field).items():
            assert np.array_equal(getattr(got, field)[name], values, equal_nan=True), (field, name)
    for field in ("loss_old", "loss_new", "known", "says_new"):
        assert np.array_equal(getattr(got, field), getattr(want, field), equal_nan=True), field
    differ = {key for key in want.provenance if want.provenance[key] != got.provenance[key]}
    assert differ <= {"seconds_old_answers", "seconds_scoring", "peak_bytes", "commit"}
