"""A model's checksum, and what it costs."""

from __future__ import annotations

import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lga_fast.models import fingerprint


class Casts(TorchDispatchMode):
    """Counts casts and copies between devices, each of which is a launch on CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._to_copy.default
        return function(*args, **(kwargs or {}))


def test_parameters_are_cast_together():
    model = tiny.model("gpt2", torch.bfloat16)
    with Casts() as casts:
        together = model.fingerprint()
    assert casts.count == 1 < len(list(model.hf.parameters()))
    one_by_one = [(*about, x.float()) for *about, x in fingerprint.samples(model.hf, 64)]
    assert fingerprint.fingerprint(model.config, one_by_one, model.device) == together


def test_a_write_that_no_counter_sees_changes_it():
    """So it cannot be kept: `.data` does not count versions, and the address stays the same."""
    model = tiny.model("gpt2")
    before, weight = model.fingerprint(), next(model.hf.parameters())
    counted = weight._version, weight.data_ptr()
    weight.data.mul_(2)
    assert (weight._version, weight.data_ptr()) == counted
    assert model.fingerprint() != before


def test_how_the_weights_were_stored_before_is_not_the_model(monkeypatch):
    """A note of the loader, which earlier conversions of the same file have not."""
    model = tiny.model("gpt2")
    before = model.fingerprint()
    monkeypatch.setattr(model.config, "dequantised_from", "Q4_1", raising=False)
    assert model.fingerprint() == before
